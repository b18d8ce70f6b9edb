"""Sub-networks on held-out images, with the weights that they have in the one-shot network."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from latkit.core.errors import Interrupted, SearchError, from_os_error
from latkit.core.files import write_atomically
from latkit.core.parquet import read_parquet, write_parquet
from latkit.dataset.cast import cast_to_schema
from latkit.search.distributed import Processes
from latkit.search.image_source import ImageData
from latkit.search.network_training import GO_ON, memory_errors
from latkit.search.oneshot.config import OneShotConfig
from latkit.search.oneshot.network import OneShotNetwork
from latkit.spaces import ChoiceMatrix, SearchSpace

SUBNETS = "subnets.parquet"
SCHEMA = pa.schema(
    [
        ("arch_id", pa.int64()),
        ("arch", pa.string()),
        ("accuracy_percent", pa.float64()),
        ("loss", pa.float64()),
    ]
)
# Sub-networks that a kill may lose are those of so many seconds, or one of each process.
WRITE_EVERY_SECONDS = 2.0
_SIZES = "--eval-batch, --channels or --cells"


class Evaluator:
    """Held-out images in batches that are the same for every sub-network.

    Args:
        network: is evaluated as it then is.
        data: the images.
        held_out: indices of the held-out ones, of which the first are taken; those that do not fill
            a batch are left out.
        images: how many of them; None for all.
        batch: images of a batch; all, where there are fewer.
        device: where the network is.
        processes: this process among those that share the sub-networks.

    Attributes:
        images: how many there are.
        batch: images of a batch.
    """

    def __init__(
        self,
        network: OneShotNetwork,
        data: ImageData,
        held_out: Tensor,
        images: int | None,
        batch: int,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self._network, self._processes = network, processes
        available = len(held_out) if images is None else min(images, len(held_out))
        self.batch = min(batch, available)
        self.images = available // self.batch * self.batch
        chosen = held_out[: self.images]
        self._images, self._labels = data.images[chosen].to(device), data.labels[chosen].to(device)
        self._mean, self._std = (part.to(device) for part in data.normalisation())

    def __call__(self, rows: ChoiceMatrix) -> Tensor:
        """Accuracy in percent and mean loss of sub-networks, one for each process at most.

        Args:
            rows: ``n x E``, the same in all processes.

        Returns:
            ``n x 2`` float64 on the CPU, the same in all processes.

        Raises:
            SearchError: a loss is not finite.
        """
        rank, world = self._processes.share
        values = torch.zeros(len(rows), 2, dtype=torch.float64)
        if rank < len(rows):
            values[rank] = self._evaluate(rows[rank])
        values = self._processes.average(values) * world
        if not torch.isfinite(values).all():
            raise SearchError(
                "the loss of a sub-network is not finite",
                "train in another --out with a smaller --weight-lr",
            )
        return values

    @torch.inference_mode()
    def _evaluate(self, row: ChoiceMatrix) -> Tensor:
        self._network.bn_mode.world = 1  # each process has a sub-network of its own
        totals = torch.zeros(2, dtype=torch.float64, device=self._labels.device)
        batches = zip(self._images.split(self.batch), self._labels.split(self.batch), strict=True)
        for images, labels in batches:
            logits = self._network.logits((images.float() - self._mean) / self._std, row)
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            correct = (logits.argmax(1) == labels).sum()
            totals += torch.stack([100 * correct.double(), loss.double()])
        return totals.cpu() / self.images


def evaluate_subnets(
    config: OneShotConfig,
    space: SearchSpace,
    evaluator: Evaluator,
    out: Path,
    processes: Processes,
    on_subnet: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    """Evaluate K random sub-networks, uniform in the space, or go on with those of ``out``.

    A longer list begins with the shorter one: a finished search may be given more of them.

    Args:
        config: how many, and the seed that names the list.
        space: of the sub-networks.
        evaluator: of the trained network.
        out: folder of ``subnets.parquet``.
        processes: this process among those that share the sub-networks.
        on_subnet: called with how many are done, and how many of them were done before.
        stop: called after each: whether to end there.

    Returns:
        A row for each, by the columns of ``SCHEMA``; of other processes than the main one none.

    Raises:
        SearchError: a loss is not finite, memory ran out, or the file is corrupt.
        Interrupted: ``stop`` returned true in one of the processes; the same call goes on.
        LatkitError: the file cannot be read.
        OSError: the folder cannot be written.
    """
    matrix = space.unrank(space.sample(config.subnets, config.seed))
    ids, texts = space.file_ids(matrix).tolist(), [space.format(row) for row in matrix]
    rows = _read(out / SUBNETS, texts) if processes.is_main else []
    # Of the main process's rows; of the others each adds nothing.
    counts = torch.tensor([len(rows)], dtype=torch.float64)
    before = round(processes.average(counts).item() * processes.world)
    done, written, last = before, len(rows), time.monotonic()
    try:
        while done < config.subnets:
            chosen = slice(done, done + processes.world)
            with memory_errors(SearchError, "while sub-networks were evaluated", _SIZES):
                values = evaluator(matrix[chosen])
            if processes.is_main:
                for place, (accuracy, loss) in enumerate(values.tolist(), start=done):
                    rows.append(
                        {
                            "arch_id": ids[place],
                            "arch": texts[place],
                            "accuracy_percent": accuracy,
                            "loss": loss,
                        }
                    )
                if time.monotonic() - last >= WRITE_EVERY_SECONDS:
                    _write(out / SUBNETS, rows)
                    written, last = len(rows), time.monotonic()
            done += len(values)
            on_subnet(done, before)
            # All processes end after the same sub-networks.
            stopping = processes.average(torch.tensor([float(stop())], dtype=torch.float64))
            if stopping.item() > 0:
                raise Interrupted(
                    f"interrupted; {done} of {config.subnets} evaluated sub-networks are kept",
                    GO_ON,
                )
    finally:
        if len(rows) > written:
            _write(out / SUBNETS, rows)
    return rows


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    write_atomically(path, lambda temporary: write_parquet(temporary, table))


def _read(path: Path, texts: list[str]) -> list[dict[str, Any]]:
    """The rows of the first of these architectures that are there."""
    fix = "delete it to evaluate all sub-networks again, or choose another --out"
    try:
        rows: list[dict[str, Any]] = cast_to_schema(read_parquet(path), SCHEMA).to_pylist()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except ValueError as error:
        raise SearchError(f"{path} is corrupt (no table of sub-networks: {error})", fix) from None
    rows = rows[: len(texts)]
    if [row["arch"] for row in rows] != texts[: len(rows)]:
        raise SearchError(f"{path} has other sub-networks than this search evaluates", fix)
    return rows
