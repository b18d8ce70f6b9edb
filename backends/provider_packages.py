"""Plug-in execution providers of ONNX Runtime: their names, and the packages that hold them.

Neither PyTorch nor ONNX Runtime is imported here: lists of backends need neither.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latkit.core.device import check_backend_name
from latkit.core.errors import BackendError, InputError
from latkit.core.plugins import Variants

if TYPE_CHECKING:
    from latkit.backends.base import Backend

STEM = "onnxruntime-ep"
# Packages that are not called ``onnxruntime_ep_*`` and have the same functions.
_OTHERS = ("onnxruntime_qnn",)
# What to install, by the slug of the provider.
_INSTALL = {
    "openvino": "'latkit[onnxruntime-ep-openvino]'",
    "webgpu": "onnxruntime-ep-webgpu",
    "nvtensorrtrtx": "onnxruntime-ep-nv-tensorrt-rtx",
    "qnn": "onnxruntime-qnn",
}


@dataclass(frozen=True)
class ProviderPackage:
    """An installed package with the library of execution providers.

    Attributes:
        module: what is imported.
        providers: their names.
        library: the shared library.
        version: of the package; None if it has none.
    """

    module: str
    providers: tuple[str, ...]
    library: Path
    version: str | None

    def __str__(self) -> str:
        name = self.module.replace("_", "-")
        return name if self.version is None else f"{name} {self.version}"


class NotInstalledError(BackendError):
    """No installed package has the execution provider."""


def provider_slug(provider: str) -> str:
    """A provider's name as it stands in paths and references.

    ``OpenVINOExecutionProvider`` gives ``openvino``: file systems that ignore case, and those in
    which a colon stands for something else, must not confuse two backends.
    """
    short = re.sub("executionprovider", "", provider.lower())
    return re.sub(r"[^a-z0-9._-]+", "-", short).strip("-._")


def backend_name(text: str) -> str:
    """The name of a backend in files, of what a user wrote.

    Args:
        text: ``onnxruntime-ep:PROVIDER``, ``onnxruntime-ep:PROVIDER:DEVICE``, or that name itself.

    Raises:
        InputError: it names no provider, or one that can stand in no path.
    """
    provider, _, device = text[len(STEM) + 1 :].partition(":")
    slugs = [slug for slug in (provider_slug(provider), provider_slug(device)) if slug]
    if not provider_slug(provider):
        raise InputError(
            f"{text!r} names no execution provider",
            f"write {STEM}:NAME, e.g. {STEM}:OpenVINOExecutionProvider",
        )
    return check_backend_name("-".join((STEM, *slugs)))


def find_packages() -> tuple[list[ProviderPackage], list[str]]:
    """The installed packages with execution providers, and why others cannot be used, a line each.

    By convention they are called ``onnxruntime_ep_*``, and have ``get_ep_names`` and
    ``get_library_path``.
    """
    packages, broken = [], []
    for name in sorted({module.name for module in pkgutil.iter_modules()}):
        if name.startswith("onnxruntime_ep_") or name in _OTHERS:
            try:
                packages.append(_describe(name))
            except Exception as error:  # anything at all may go wrong in somebody else's module
                broken.append(" ".join(f"{name}: {type(error).__name__}: {error}".split())[:200])
    return packages, broken


def _describe(name: str) -> ProviderPackage:
    module = importlib.import_module(name)
    version: str | None
    try:
        version = importlib.metadata.version(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:  # such as one of several builds of one package
        version = getattr(module, "__version__", None)
    return ProviderPackage(
        name, tuple(module.get_ep_names()), Path(module.get_library_path()), version
    )


def find_package(name: str) -> ProviderPackage:
    """The installed package that holds the execution provider of a backend's name in files.

    Raises:
        NotInstalledError: none does.
    """
    packages, broken = find_packages()
    for package in packages:
        for provider in package.providers:
            slug = f"{STEM}-{provider_slug(provider)}"
            if name == slug or name.startswith(f"{slug}-"):
                return package
    wanted = name.removeprefix(f"{STEM}-")
    there = ", ".join(f"{STEM}:{p}" for package in packages for p in package.providers)
    lines = [f"installed: {there}" if there else "there is none", *broken]
    install = _INSTALL.get(wanted.partition("-")[0], f"the package of its vendor ({STEM}-...)")
    raise NotInstalledError(
        f"no installed package has the execution provider {wanted} ({'; '.join(lines)})",
        f"pip install {install}, or name its library by --provider-library",
    )


class ProviderBackends(Variants["Backend"]):
    """A backend for each plug-in execution provider: ``onnxruntime-ep:PROVIDER``."""

    def names(self) -> list[str]:
        return [
            f"{STEM}:{provider}" for package in find_packages()[0] for provider in package.providers
        ]

    def covers(self, name: str) -> bool:
        return name.startswith((f"{STEM}:", f"{STEM}-"))

    def make(self, name: str) -> type[Backend]:
        from latkit.backends.onnxruntime_ep import provider_backend

        return provider_backend(name)
