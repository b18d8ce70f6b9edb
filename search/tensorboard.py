"""A search's history as TensorBoard scalars (extra ``tensorboard``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from latkit.core.errors import InputError, from_os_error

FOLDER = "tensorboard"


def check_tensorboard() -> None:
    """Raises: InputError: TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise InputError(
            "TensorBoard is not installed", "pip install 'latkit[tensorboard]'"
        ) from None


def tensorboard_writer(out: Path) -> Callable[[dict[str, Any]], None]:
    """What writes each number of a history's row as a scalar of that epoch below ``out``.

    Raises:
        InputError: TensorBoard is not installed.
        LatkitError: ``out`` cannot be written.
    """
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    folder = out / FOLDER
    try:
        writer = SummaryWriter(str(folder))
    except OSError as error:
        raise from_os_error(error, f"write {folder}", "nothing was changed") from None

    def write(row: dict[str, Any]) -> None:
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)):
                writer.add_scalar(name, value, row["epoch"])
        writer.flush()

    return write
