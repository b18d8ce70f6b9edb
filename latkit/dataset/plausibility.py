"""What makes the numbers of an imported dataset doubtful: their units, and copied rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from latkit.dataset.latency import LatencyDataset

# No runtime begins and ends some dozens of operations in less.
LEAST_LATENCY_MS = 0.05
# Multiply-adds a second of one image. Nothing is slower than a microcontroller, where it is work
# and not overhead that takes the time; one image alone is too little work to be faster.
LEAST_RATE, MOST_RATE = 5e7, 2e12
OVERHEAD_MS = 1000.0
# A device that runs several images at once does more, up to about this many of them.
FULL_BATCH = 32
# Mean power of a run: from a microcontroller to a server.
LEAST_WATTS, MOST_WATTS = 1e-2, 1.5e3
MOST_MEMORY_MIB = 2.0**20
# Where more of the repeated measurements have the very numbers of an earlier one, it is no chance.
NOTABLE_EQUAL_SHARE = 0.1


def doubts(dataset: LatencyDataset) -> Iterator[str]:
    """What is hardly possible in an imported dataset, each as a sentence with the likely cause.

    Nothing of a dataset that was measured here: there the units are known.
    """
    if dataset.manifest.anchor is not None:
        return
    rows = {
        name: dataset.table[name].to_numpy() for name in (*dataset.quantities, "macs", "params")
    }
    latency_ms = rows["latency_ms"]
    median_ms = float(np.median(latency_ms))
    batch = dataset.manifest.target.setting.batch
    rate = float(np.median(rows["macs"] * batch / latency_ms)) * 1e3
    scale = min(batch, FULL_BATCH)
    amount = f"the median latency is {median_ms:.3g} ms, {rate:.1g} multiply-adds a second"
    if median_ms < LEAST_LATENCY_MS or rate > scale * MOST_RATE:
        yield f"{amount}, faster than any device: is the unit of the latencies right?"
    elif median_ms > OVERHEAD_MS and rate < scale * LEAST_RATE:
        yield f"{amount}, slower than any device: is the unit of the latencies right?"
    if "energy_mj" in rows:
        watts = float(np.median(rows["energy_mj"] / latency_ms))
        if not LEAST_WATTS <= watts <= MOST_WATTS:
            yield (
                f"the median of energy over latency is {watts:.2g} W, which no device draws: are "
                "the units of both right?"
            )
    if "peak_memory_mb" in rows:
        memory_mib = float(np.median(rows["peak_memory_mb"]))
        weights_mib = float(np.median(rows["params"])) / 2**20  # of one byte each
        if not weights_mib <= memory_mib <= MOST_MEMORY_MIB:
            yield (
                f"the median peak memory is {memory_mib:.3g} MiB, and the weights alone take at "
                f"least {weights_mib:.2g}: is the unit of the memories right?"
            )
    equal, repeats = _equal_repeats(dataset)
    if equal > NOTABLE_EQUAL_SHARE * repeats:
        yield (
            f"{equal} of {repeats} repeated measurements have the very numbers of an earlier one: "
            "rows were copied, or numbers are rounded; the retest error is larger than it seems"
        )


def _equal_repeats(dataset: LatencyDataset) -> tuple[int, int]:
    """Repeated measurements that equal an earlier one of their architecture, and all repeated."""
    keys = ["arch_id", *dataset.quantities]
    different = dataset.table.group_by(keys, use_threads=False).aggregate([]).num_rows
    rows = dataset.table.num_rows
    return rows - different, rows - dataset.architectures
