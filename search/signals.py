"""SIGTERM and Ctrl-C as a request to stop, so that a search ends between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A terminal and a launcher both pass one Ctrl-C on; that is no second one.
SAME_REQUEST_SECONDS = 2.0


class StopRequest:
    """Whether a signal has requested to stop."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self) -> bool:
        return self.requested


@contextmanager
def stop_on_signals(*numbers: signal.Signals) -> Iterator[StopRequest]:
    """Turn the first signal into a request; a later one interrupts at once.

    In a thread other than the main one, which gets no signals, nothing changes.

    Args:
        numbers: the signals; without any, SIGTERM and SIGINT.

    Yields:
        The request, to be called between steps.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if not request.requested:
            request.requested, first = True, now
        elif now - first > SAME_REQUEST_SECONDS:
            raise KeyboardInterrupt

    numbers = numbers or (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
