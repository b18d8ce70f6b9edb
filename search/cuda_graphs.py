"""CUDA graphs of functions that are called again and again on the same tensors.

A step of a search is thousands of small kernels, and the host takes longer to launch them one by
one than the GPU takes to run them; a graph is launched as one. Not yet run on a GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch

# Calls before a capture, in which libraries choose and allocate, on the stream of the capture.
WARM_UP_CALLS = 3

Action = Literal["call", "warm up", "capture", "replay"]


class Launch(Protocol):
    """What runs a function of fixed tensors, which has no arguments and no result."""

    def __call__(self, name: str, function: Callable[[], None]) -> None:
        """Run it; ``name`` is that of this function and of no other."""
        ...


def call(name: str, function: Callable[[], None]) -> None:
    """Launch a function by a call."""
    function()


def next_action(calls: int, captured: bool, given_up: bool) -> Action:
    """How a function is launched.

    Args:
        calls: how often it has been launched before.
        captured: whether there is a graph of it.
        given_up: whether a capture has failed, of this function or of another.
    """
    if given_up:
        return "call"
    if captured:
        return "replay"
    return "capture" if calls >= WARM_UP_CALLS else "warm up"


def reason_of(error: BaseException) -> str:
    """The first line of an error's text, or its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class CudaGraphs:
    """Launches functions as CUDA graphs, each of which is captured after some calls.

    The graphs share memory: nothing that a function leaves in memory of its own may be read after
    another one has run. If a capture fails, the functions are called from then on, as before it.

    Args:
        device: the GPU.
        warn: receives a line if a capture fails.

    Attributes:
        given_up: whether one has failed.
    """

    def __init__(self, device: torch.device, warn: Callable[[str], None]) -> None:
        self._device, self._warn = device, warn
        # Capture is refused on the default stream.
        self._stream: Any = torch.cuda.Stream(device)
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._graphs: dict[str, Any] = {}
        self._calls: Counter[str] = Counter()
        self.given_up = False

    @property
    def captured(self) -> frozenset[str]:
        """Names of the functions that there are graphs of."""
        return frozenset(self._graphs)

    def __call__(self, name: str, function: Callable[[], None]) -> None:
        action = next_action(self._calls[name], name in self._graphs, self.given_up)
        self._calls[name] += 1
        if action == "capture":
            # A capture computes nothing: its first replay does.
            action = "replay" if self._capture(name, function) else "call"
        if action == "replay":
            self._graphs[name].replay()
        elif action == "warm up":
            here = torch.cuda.current_stream(self._device)
            self._stream.wait_stream(here)
            with torch.cuda.stream(self._stream):
                function()
            here.wait_stream(self._stream)
        else:
            function()

    def _capture(self, name: str, function: Callable[[], None]) -> bool:
        """Whether it could be captured."""
        here = torch.cuda.current_stream(self._device)
        graph: Any = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                function()
        except RuntimeError as error:
            torch.cuda.set_stream(here)  # where a capture cannot be ended, its stream stays current
            self.given_up = True
            self._graphs.clear()
            self._warn(
                "steps are launched kernel by kernel, which is slower: capturing them as CUDA "
                f"graphs failed ({reason_of(error)})"
            )
            return False
        self._graphs[name] = graph
        return True
