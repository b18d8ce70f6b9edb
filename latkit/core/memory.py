"""Whether an error means that memory ran out: runtimes have no common class for that."""

from __future__ import annotations

import re

# Texts of PyTorch's CPU allocator, of C++'s allocators, of ONNX Runtime's, OpenVINO's and CUDA's.
_SIGNS = re.compile(
    r"out.?of.?memory"
    r"|bad.?alloc"
    r"|alloc_failed"
    r"|(fail|can.?t|cannot|could not|unable)[^.]*\ballocat[^.]*(memory|buffer|bytes|[kmgt]i?b\b)"
    r"|exceeded max size of memory allocation"
    r"|(not enough|insufficient) memory"
    r"|storage size calculation overflow"
    r"|integer multiplication overflow",
    re.IGNORECASE,
)


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error, of whatever class, is one of memory.

    By its class where there is one (``MemoryError``, ``torch.OutOfMemoryError``), else by its text.
    """
    # By name: a runtime that is not PyTorch must not load it for this.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"} or _SIGNS.search(str(error)))
