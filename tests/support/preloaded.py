"""Imported once by the fork server: what commands need, as garbage that is never looked for."""

from __future__ import annotations

import contextlib
import gc

import pyarrow.parquet
import sklearn.datasets
import torch
import torch.distributed.tensor  # which the first collective operation imports

import latkit.api
import latkit.cli.main

with contextlib.suppress(ImportError):
    import s3fs

__all__ = ["latkit", "pyarrow", "s3fs", "sklearn", "torch"]

gc.collect()
gc.freeze()
