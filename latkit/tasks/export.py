"""Write a network as a file for a runtime, and compare it with PyTorch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from latkit.core.errors import InputError, LatkitError, from_os_error
from latkit.core.events import SILENT, Listener
from latkit.core.files import write_atomically
from latkit.core.locks import sole_writer
from latkit.core.requests import set_paths
from latkit.networks.onnx_model import INPUT, OPSET, build_onnx, external_data_path
from latkit.networks.pte import build_pte
from latkit.networks.state import load_state
from latkit.spaces import Architecture, Setting, parse_setting
from latkit.spaces.architecture import architecture_cost, read_network
from latkit.spaces.build import build_network, random_network
from latkit.training.result import trained_network

if TYPE_CHECKING:
    from latkit.networks.onnx_model import OnnxNetwork

FORMATS = ("onnx", "tensorrt", "pte")
# What compares a file with PyTorch, by format: its package, its name, and latkit's extra.
_VERIFIERS = {
    "onnx": ("onnxruntime", "ONNX Runtime", "onnxruntime"),
    "pte": ("executorch", "ExecuTorch", "executorch"),
}
VERIFIED_IMAGES = 32
# Of logits, relative to the largest; fp32 in another order of summation stays well below.
TOLERANCES = {"fp32": 1e-5, "fp16": 1e-2}

Run = Callable[[Any], Any]  # images to logits, arrays both


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        architecture: a name, a text or a file (see ``latkit.spaces.reader.read_architectures``).
        out: new file.
        to: ``onnx``, for any runtime; ``tensorrt``: an engine for this machine's GPU and the
            installed version of TensorRT; ``pte``: a program of ExecuTorch, run by XNNPACK.
        setting: the network around the architecture, or its text; None: that of a training whose
            folder is named as ``weights``, else ``imagenet``.
        weights: a ``state_dict`` of the network in a safetensors file, or a training's folder, of
            which the first seed's last weights are taken; None: random ones, fit for measuring
            only.
        dynamic_batch: whether the number of images is left open.
    """

    architecture: str | int | os.PathLike[str]
    out: Path
    to: str = "onnx"
    setting: str | Setting | None = None
    weights: Path | None = None
    dynamic_batch: bool = False

    def __post_init__(self) -> None:
        set_paths(self, "out", "weights")


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        file: the model.
        genotype: text of the architecture.
        setting: of the network.
        format: see ``ExportRequest.to``.
        opset: of ONNX.
        bytes: of all files.
        external_data: the file of the weights where the model cannot hold them.
        dynamic_batch: whether the number of images is open.
        weights: their file, or ``random``.
        macs, params: of the network.
        verified_images: how many were compared with PyTorch; None: the runtime is not installed.
        largest_relative_error: of their logits, relative to the largest.
    """

    file: str
    genotype: str
    setting: Setting
    format: str
    opset: int
    bytes: int
    external_data: str | None
    dynamic_batch: bool
    weights: str
    macs: int
    params: int
    verified_images: int | None
    largest_relative_error: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "setting": self.setting.to_dict()}


def export(request: ExportRequest, listener: Listener = SILENT) -> ExportResult:
    """Write a network, batch norms folded in; the file gets its name once it has been compared.

    Raises:
        InputError: the architecture, the setting or the weights cannot be read or do not fit, the
            file exists, or another process writes it.
        BackendError: TensorRT does not work here.
        TrainingError: the weights' folder is no finished training.
        LatkitError: the exported network differs from PyTorch's, or the file cannot be written.
    """
    request, setting = _resolved(request)
    cells = read_network(request.architecture, setting)
    with sole_writer(request.out):
        return _export(request, setting, cells, listener)


def _export(
    request: ExportRequest, setting: Setting, cells: Architecture, listener: Listener
) -> ExportResult:
    """See :func:`export`; the file is this process's own."""
    _check(request, setting)
    if request.weights is None:
        network = random_network(cells, setting, 0)
    else:
        network = build_network(cells, setting).eval()
        load_state(network, request.weights)
    model = build_onnx(
        network, setting.batch, setting.resolution, setting.classes, request.dynamic_batch,
        setting.precision,
    )  # fmt: skip
    size = VERIFIED_IMAGES if request.dynamic_batch else setting.batch
    files, error = _write(request, network, model, setting, size)
    cost = architecture_cost(cells, setting)
    result = ExportResult(
        file=str(request.out),
        genotype=str(cells),
        setting=setting,
        format=request.to,
        opset=OPSET,
        bytes=sum(file.stat().st_size for file in files),
        external_data=str(files[0]) if len(files) > 1 else None,
        dynamic_batch=request.dynamic_batch,
        weights="random" if request.weights is None else str(request.weights),
        macs=cost.macs,
        params=cost.params,
        verified_images=None if error is None else _whole_runs(size),
        largest_relative_error=error,
    )
    if result.external_data is not None:
        listener.note(f"the weights are in {files[0]}, which belongs beside {request.out}")
    if request.weights is None:
        listener.warn(
            "the weights are random: good for measuring, not for use (--weights has trained ones)"
        )
    if error is None:
        _, runtime, extra = _VERIFIERS[request.to]
        listener.note(
            f"not verified, because {runtime} is not installed: pip install 'latkit[{extra}]'"
        )
    return result


def _resolved(request: ExportRequest) -> tuple[ExportRequest, Setting]:
    """The request with a file of weights instead of a training's folder, and the setting."""
    setting = request.setting
    if request.weights is not None and request.weights.is_dir():
        file, network = trained_network(request.weights)
        request = dataclasses.replace(request, weights=file)
        setting = Setting(network) if setting is None else setting
    if setting is None or isinstance(setting, str):
        setting = parse_setting(setting or "imagenet")
    return request, setting


def _check(request: ExportRequest, setting: Setting) -> None:
    if request.to not in FORMATS:
        raise InputError(f"unknown format {request.to!r}", f"use one of: {', '.join(FORMATS)}")
    for file in (request.out, external_data_path(request.out)):
        if file.exists():
            raise InputError(f"{file} exists", "choose another --out, or remove it")
    precisions = ["fp32"] if request.to == "pte" else list(TOLERANCES)
    if setting.precision not in precisions:
        raise InputError(
            f"a network cannot be exported in {setting.precision}"
            + (" to pte" if request.to == "pte" else ""),
            f"use a setting with precision={' or '.join(precisions)}",
        )
    if request.to != "onnx" and request.dynamic_batch:
        what = "an engine" if request.to == "tensorrt" else "a program of ExecuTorch"
        raise InputError(
            f"{what} is built for one number of images",
            "leave --dynamic-batch out and name the number, e.g. --setting imagenet,batch=8",
        )


def _write(
    request: ExportRequest, network: nn.Module, model: OnnxNetwork, setting: Setting, size: int
) -> tuple[list[Path], float | None]:
    """The files that were written, weights before the model, and the model's largest error."""
    out, error = request.out, None
    files: list[Path] = []
    try:
        # The folder is on the file's own disk; its files have their names, which models refer to.
        with _hidden_folder(out) as folder:
            made = folder / out.name
            if request.to == "tensorrt":
                plan, error = _build_engine(network, model.serialized(), setting)
                made.write_bytes(plan)
                temporary = [made]
            else:
                if request.to == "pte":
                    made.write_bytes(build_pte(model).serialized())
                    temporary = [made]
                else:
                    temporary = model.write(made)
                if importlib.util.find_spec(_VERIFIERS[request.to][0]) is not None:
                    error = _verify(network, _RUNS[request.to](made), setting, size)
            for file in temporary:
                files.append(out.with_name(file.name))
                write_atomically(files[-1], functools.partial(os.replace, file))
    except OSError as problem:
        for file in files:
            file.unlink(missing_ok=True)
        raise from_os_error(problem, f"write {out}", "nothing was written") from None
    return files, error


@contextlib.contextmanager
def _hidden_folder(out: Path) -> Iterator[Path]:
    """An empty folder beside a file that is this process's own; a killed one may have left it."""
    folder = out.with_name(f".{out.name}.making")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _onnxruntime_run(path: Path) -> Run:
    """What an ONNX file computes, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0]


def _executorch_run(path: Path) -> Run:
    """What a program of ExecuTorch computes, on the CPU."""
    from latkit.backends.executorch_program import Program

    return Program(path.read_bytes())


_RUNS: dict[str, Callable[[Path], Run]] = {"onnx": _onnxruntime_run, "pte": _executorch_run}


def _build_engine(network: nn.Module, content: bytes, setting: Setting) -> tuple[bytes, float]:
    """A TensorRT engine of an ONNX file, and its largest error."""
    from latkit.backends.tensorrt import TensorrtBackend

    with TensorrtBackend() as backend:
        plan = backend.plan(content, setting.precision)

        def run(images: Any) -> Any:
            with backend.load(plan, images) as runner:
                return runner.logits()

        return plan, _verify(network, run, setting, setting.batch)


def _whole_runs(size: int) -> int:
    """How many images are compared: as many runs of ``size`` as make ``VERIFIED_IMAGES``."""
    return -(-VERIFIED_IMAGES // size) * size


def _verify(network: nn.Module, run: Run, setting: Setting, size: int) -> float:
    """The largest error of a file's logits against PyTorch's, relative to the largest logit.

    Where all logits are 0 (a cell through which nothing passes), it is the largest itself.

    Args:
        run: the file's logits of ``size`` images.
        size: images per run.

    Raises:
        LatkitError: it is too large.
    """
    images = torch.randn(
        _whole_runs(size), 3, setting.resolution, setting.resolution,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    wanted, got = [], []
    with torch.inference_mode():
        for batch in images.split(size):
            wanted.append(network(batch).numpy())
            got.append(run(batch.numpy()))
    error = float(np.abs(np.concatenate(got) - np.concatenate(wanted)).max())
    error /= float(np.abs(np.concatenate(wanted)).max()) or 1.0
    limit = TOLERANCES[setting.precision]
    if not error <= limit:
        raise LatkitError(
            f"the exported network differs from PyTorch by {error:.1e} (limit {limit:.0e})",
            "check the weights for values that are not finite or, in fp16, beyond its range "
            "(precision=fp32); otherwise report this defect",
        )
    return error
