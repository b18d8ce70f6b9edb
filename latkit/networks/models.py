"""Models that are of no search space: torchvision's, ONNX files, and what a user's callable makes.

``torchvision:NAME?key=value&…`` is a model of torchvision with random weights, ``FILE.onnx`` a file
as it is, and ``package.module:callable`` returns an ``nn.Module`` (the current folder is on the
path). Random weights follow from the seed.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import io
import os
import re
import sys
import urllib.parse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn

from latkit.core.errors import InputError, LatkitError
from latkit.core.files import expand_user
from latkit.networks.inputs import (
    EXAMPLE,
    Array,
    TensorSpec,
    choose_shapes,
    parse_input,
    random_arrays,
    shape_text,
)
from latkit.networks.onnx_file import (
    count_macs,
    count_params,
    input_dims,
    read_onnx,
    renamed,
    serialized,
    with_shapes,
)

Kind = Literal["module", "onnx"]
TORCHVISION = "torchvision:"
IMAGES = "1x3x224x224"
# What the exporter of modules writes; read by every runtime that latkit knows.
OPSET = 17
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\?.*)?")


@dataclass(frozen=True)
class Model:
    """A model of no space with the shapes of its inputs; it has a module or a file's content.

    Attributes:
        name: as the user wrote it.
        identity: what it is, whatever it is called: the digest of a file, and so on.
        inputs: with their shapes.
        params: of the weights.
        macs: multiply-adds of convolutions and matrix products for one sample; None: not known.
        macs_reason: why not; empty where it is known.
        module: in eval mode, on the CPU.
        file: an ONNX model with its weights.
        fixed_batch: whether the file is of one number of samples only.
    """

    name: str
    identity: str
    inputs: tuple[TensorSpec, ...]
    params: int
    macs: int | None
    macs_reason: str = ""
    module: nn.Module | None = None
    file: onnx.ModelProto | None = None
    fixed_batch: bool = False

    @property
    def kind(self) -> Kind:
        return "module" if self.file is None else "onnx"

    @property
    def batch(self) -> int:
        """Samples in a run."""
        return self.inputs[0].shape[0]

    @property
    def shapes(self) -> str:
        """The shapes of the inputs without the batch, as a text."""
        return " ".join(f"{spec.name}={shape_text(spec.shape[1:])}" for spec in self.inputs)

    def at_batch(self, batch: int) -> Model:
        """The model with another number of samples in a run.

        Raises:
            InputError: the file is of one number only.
        """
        if batch == self.batch:
            return self
        if self.fixed_batch:
            raise InputError(
                f"{self.name} takes {self.batch} samples a run and not {batch}",
                "leave --batch out, or export it with an open batch dimension",
            )
        return replace(self, inputs=tuple(spec.at_batch(batch) for spec in self.inputs))

    def arrays(self, seed: int) -> dict[str, Array]:
        """Random values of the inputs by name; they follow from shapes and seed."""
        return random_arrays(self.inputs, seed)

    def tensors(self, seed: int) -> tuple[Tensor, ...]:
        """The same as tensors, in the order of the inputs."""
        return tuple(torch.from_numpy(array) for array in self.arrays(seed).values())

    def onnx(self, latkit_names: bool = False) -> bytes:
        """The model as an ONNX file with fixed shapes; a module is exported by PyTorch.

        Args:
            latkit_names: name the input and the output as latkit's own networks do.

        Raises:
            InputError: PyTorch cannot export the module, or the file has several inputs where
                latkit's names are needed.
        """
        if self.module is not None:
            content = export_module(self.module, self.tensors(0), self.name)
            if not latkit_names:
                return content
            return serialized(renamed(onnx.load_model_from_string(content)))
        assert self.file is not None
        fixed = with_shapes(self.file, {spec.name: spec.shape for spec in self.inputs})
        return serialized(renamed(fixed) if latkit_names else fixed)


def is_model(what: str) -> bool:
    """Whether a text names a model of no space rather than an architecture."""
    if what.startswith(TORCHVISION) or what.lower().endswith(".onnx"):
        return True
    return (
        _CALLABLE.fullmatch(what) is not None
        and not what.startswith("zoo:")
        and not (os.path.exists(what.rpartition(":")[0]))
    )


def load_model(what: str, given: Sequence[str] = (), seed: int = 0) -> Model:
    """A model by its text (see the module).

    Args:
        what: the text.
        given: shapes of inputs, ``1x3x224x224`` or ``NAME=1x128``; torchvision's models have the
            former where none is named.
        seed: of random weights.

    Raises:
        InputError: there is no such model, it is malformed, or its shapes do not fit.
        LatkitError: a file cannot be read.
    """
    if what.lower().endswith(".onnx"):
        return _load_file(what, given)
    path, _, query = what.partition("?")
    options = _options(query)
    if what.startswith(TORCHVISION):
        name = path.removeprefix(TORCHVISION)
        make: Callable[[], Any] = _torchvision(name, options)
        given = given or (IMAGES,)
        label = f"{path}?{urllib.parse.urlencode(sorted(options.items()))}".rstrip("?")
    else:
        if not given:
            raise InputError(f"the shape of the input of {what} is not known", f"add {EXAMPLE}")
        make, label = _callable(path, options), what
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        module = _called(make, what)
    return from_module(module, what, label, given, seed)


def from_module(
    module: nn.Module, name: str, label: str, given: Sequence[str] = (IMAGES,), seed: int = 0
) -> Model:
    """A model of a module, which is put into eval mode and run once, to be counted.

    Args:
        module: on the CPU.
        name: for people.
        label: names its structure, for its identity.
        given: the shapes of its inputs in their order.
        seed: that its weights follow from.

    Raises:
        InputError: it does not run on inputs of these shapes.
    """
    module.eval().requires_grad_(False)
    shapes = [parse_input(text) for text in given]
    specs = tuple(
        TensorSpec(text or (f"input{i}" if i else "input"), shape)
        for i, (text, shape) in enumerate(shapes)
    )
    structure = "".join(f"{k}{tuple(v.shape)}" for k, v in module.state_dict().items())
    digest = hashlib.sha256(f"{module}{structure}".encode()).hexdigest()[:12]
    params = sum(parameter.numel() for parameter in module.parameters())
    one = Model(name, "", tuple(spec.at_batch(1) for spec in specs), params, 0, module=module)
    macs = _module_macs(module, one.tensors(seed), name)
    return replace(one, identity=f"{label} {digest} seed={seed}", inputs=specs, macs=macs)


def first_tensor(output: Any) -> Tensor:
    """The first tensor of what a module returns, be it in tuples, lists or mappings.

    Raises:
        ValueError: there is none.
    """
    if isinstance(output, Tensor):
        return output
    parts = output.values() if isinstance(output, dict) else output
    if isinstance(output, (dict, list, tuple)):
        for part in parts:
            if isinstance(part, (Tensor, dict, list, tuple)):
                return first_tensor(part)
    raise ValueError("the module returns no tensor")


def export_module(module: nn.Module, inputs: tuple[Tensor, ...], name: str) -> bytes:
    """An ONNX file of a module for inputs of these shapes, by PyTorch's exporter.

    Raises:
        InputError: PyTorch cannot export it.
    """
    buffer: Any = io.BytesIO()
    names = ["input", *(f"input{i}" for i in range(1, len(inputs)))]
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            # The tracing exporter: seconds faster than the newer one, and needs no further package.
            torch.onnx.export(
                module, inputs, buffer, dynamo=False, opset_version=OPSET, input_names=names
            )
    except Exception as error:  # the exporter runs the module's own code
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"PyTorch cannot export {name} to ONNX ({reason})",
            "use --backend torch-cpu, or export it yourself and name the file",
        ) from None
    return bytes(buffer.getvalue())


def _module_macs(module: nn.Module, inputs: tuple[Tensor, ...], name: str) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            first_tensor(module(*inputs))
    except Exception as error:  # the module is the user's
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        shapes = ", ".join(shape_text(tensor.shape) for tensor in inputs)
        raise InputError(
            f"{name} does not run on an input of {shapes} ({reason})",
            f"name the shape it takes, e.g. {EXAMPLE}",
        ) from None
    return int(counter.get_total_flops()) // 2  # which counts two for a multiply-add


def _load_file(what: str, given: Sequence[str]) -> Model:
    model, digest = read_onnx(expand_user(what))
    declared = input_dims(model)
    if not declared:
        raise InputError(f"{what} has no input", "use a model that has one")
    shapes = choose_shapes(what, [(name, dims) for name, dims, _ in declared], given)
    if not all(shapes):
        raise InputError(f"{what} has an input without a batch", "use a model of tensors")
    inputs = tuple(
        TensorSpec(name, shape, dtype)
        for (name, _, dtype), shape in zip(declared, shapes, strict=True)
    )
    fixed = with_shapes(model, {spec.name: spec.shape for spec in inputs})
    macs, reason = count_macs(fixed)
    if macs is not None:
        macs //= inputs[0].shape[0]
    is_fixed = any(isinstance(dims[0], int) for _, dims, _ in declared)
    return Model(
        what, f"sha256:{digest[:16]}", inputs, count_params(model), macs, reason, file=model,
        fixed_batch=is_fixed,
    )  # fmt: skip


def _options(query: str) -> dict[str, Any]:
    """The arguments after a question mark: numbers, truth values, or texts."""
    options: dict[str, Any] = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            options[name] = value
    return options


def _torchvision(name: str, options: dict[str, Any]) -> Callable[[], Any]:
    from torchvision import models

    known = models.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise InputError(
            f"torchvision has no model {name!r}", f"{hint}see torchvision.models.list_models()"
        )
    if "weights" in options:
        raise InputError("weights are random here", "leave weights= out")
    return lambda: models.get_model(name, weights=None, **options)


def _callable(path: str, options: dict[str, Any]) -> Callable[[], Any]:
    module_name, _, attribute = path.partition(":")
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # importing runs the user's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"cannot import {path} ({reason})",
            "write package.module:callable, of a module that can be imported from here",
        ) from None
    if not callable(found):
        raise InputError(f"{path} cannot be called", "name a function or class that makes a module")
    return lambda: found(**options)


def _called(make: Callable[[], Any], what: str) -> nn.Module:
    try:
        module = make()
    except LatkitError:
        raise
    except Exception as error:  # the callable is the user's
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"{what} makes no model ({reason})",
            "check its arguments, which follow a question mark: ?width_mult=1.4&num_classes=10",
        ) from None
    if not isinstance(module, nn.Module):
        raise InputError(
            f"{what} returns {type(module).__name__}", "name a callable that returns an nn.Module"
        )
    return module
