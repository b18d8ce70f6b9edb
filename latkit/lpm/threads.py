"""One thread for small fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS, OpenMP and PyTorch to one thread; also a decorator.

    A fit is thousands of products and factorisations of small matrices. Each of them is over
    before a second thread has begun, and where another process has that thread's core, each of
    them waits for it.
    """
    before = torch.get_num_threads()
    with threadpool_limits(limits=1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
