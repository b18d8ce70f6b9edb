"""What runtimes raise, as the one line that it is worth."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from latkit.core.errors import BackendError
from latkit.core.memory import memory_ran_out

if TYPE_CHECKING:
    from latkit.networks.models import Kind, Model


def no_models(backend: str, model: Model, kinds: tuple[Kind, ...]) -> BackendError:
    if not kinds:
        return BackendError(
            f"{backend} takes architectures of search spaces and no other models ({model.name})",
            "use another --backend, or give its class model_kinds and _compile_model",
        )
    if model.kind == "onnx":
        return BackendError(
            f"{backend} runs PyTorch's modules and no ONNX files ({model.name})",
            "use --backend onnxruntime-cpu or openvino-cpu, or name what makes the module: "
            "package.module:callable",
        )
    return BackendError(
        f"{backend} runs ONNX files and no modules ({model.name})",
        "export it to ONNX and name the file",
    )


@contextlib.contextmanager
def model_errors(backend: str, name: str) -> Iterator[None]:
    """Turn what a runtime raises of a user's model into the one line it is worth.

    Raises:
        BackendError: what failed, and the runtime's reason.
    """
    try:
        yield
    except (RuntimeError, MemoryError, ValueError, TypeError) as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        fix = "check the model by onnx.checker, or use another --backend"
        if memory_ran_out(error):
            fix = "memory ran out: use a smaller --batch"
        elif lacks_operator(reason):
            fix = "use another --backend, a newer release of the runtime, or export the model "
            fix += "with operators that it has"
        raise BackendError(f"{backend} cannot take {name} ({reason[:300]})", fix) from error


def lacks_operator(reason: str) -> bool:
    """Whether a runtime's message says that it does not have one of a model's operators."""
    return _LACKING.search(reason) is not None


_LACKING = re.compile(
    r"no op registered|not a registered function/op|could not find an implementation"
    r"|not[_ ]implemented|unsupported (onnx )?op|does not support the following onnx|"
    r"no importer registered|no conversion rule|is not supported in opset|unsupported operator"
    r"|only supports models stamped with official released onnx opset",
    re.IGNORECASE,
)


@contextlib.contextmanager
def runtime_errors(what: str) -> Iterator[None]:
    """Turn a runtime's own exception into the one line it is worth.

    Raises:
        BackendError: what failed, and the runtime's reason.
    """
    try:
        yield
    except (RuntimeError, MemoryError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        fix = "see whether latkit doctor finds it ok; if so, use another setting or backend"
        if memory_ran_out(error):
            fix = "memory ran out: use a smaller setting, e.g. batch=1"
        raise BackendError(f"{what} ({reason})", fix) from error
