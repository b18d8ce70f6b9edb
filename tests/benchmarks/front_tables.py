"""Tables of accuracies and latencies made by formula, for the judge of fronts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import front_lpms
from benchmarks.front_judge import SPACE, Cells, Table
from latkit.search.oneshot.accuracy import fit_accuracy, write_accuracy
from latkit.search.oneshot.config import preset
from latkit.search.oneshot.evaluation import EVALUATION
from latkit.search.oneshot.initial import INITIAL
from latkit.spaces.nasbench201.config import NasBench201Config


def made_table() -> Table:
    """Accuracies and latencies by formula, and 500 cells of 1 % that are fast."""
    x = front_lpms.encodings(np.arange(SPACE.size))
    rng = np.random.default_rng(0)
    accuracy = 30 + x @ rng.uniform(0, 7, x.shape[1])
    latency = {name: 2 + x @ rng.uniform(0, 3, x.shape[1]) for name in ("one", "two")}
    accuracy[:500] = 1.0
    latency["one"][:500] = 0.1
    return Table(accuracy, latency)


def one_shot_search(folder: Path, cells: Cells, table: Table) -> None:
    """What a one-shot search leaves, of which all that ranks cells is their true accuracy."""
    found, accuracy = [], table.accuracy[cells]
    for finding in (EVALUATION, INITIAL):
        columns = {name: -accuracy if name == "loss" else accuracy for name in finding.columns}
        texts = [SPACE.format(row) for row in SPACE.unrank(cells)]
        rows = pa.table({"arch_id": cells, "arch": texts, **columns}, schema=finding.schema)
        pq.write_table(rows, folder / finding.file)
        found.append(rows.to_pylist())
    network = NasBench201Config(cells=3, channels=4, resolution=8)
    write_accuracy(folder, fit_accuracy(SPACE, network, *found, 0, {}))
    config = dataclasses.replace(preset("cpu", SPACE.name), epochs=10, batch=8, paths=5)
    result = {
        "config": config.to_dict(), "network": network.to_dict(), "data": {"images": 64},
        "history": {"epochs": 10},
        "subnets": {"count": len(cells), "images": 32, "batch": 16, "noise_images": 4},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
