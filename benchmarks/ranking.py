"""What ranks the sub-networks of one-shot searches, by the true accuracies of NAS-Bench-201.

    python benchmarks/ranking.py --data ../shared/data --supernets a b c \\
        --out benchmarks/results/DATE-ranking.json

Each column is a set of what was found of the sub-networks: accuracy and loss with shared weights,
training-free measures, MACs. As in the search, the set's mean normal score orders them and an
accuracy LPM is fitted, which then predicts all cells. *Spearman* is its rank correlation with the
true CIFAR-100 accuracies, of all cells and of the more accurate half; *share* and *slowdown* are
those of ``fronts.py``, with latencies predicted by default LPMs from ten cells. Prints a summary to
stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.conditions import conditions
from benchmarks.front_judge import SPACE, Judge, Table
from benchmarks.front_lpms import (
    MEASURED,
    LPMs,
    Tabulated,
    everywhere,
    learnt,
    predicted_latencies,
)
from benchmarks.fronts import mean, retargeted, say
from latkit.core.quantities import ACCURACY
from latkit.lpm.base import FloatArray
from latkit.lpm.threads import one_thread
from latkit.search.oneshot.evaluation import EVALUATION
from latkit.search.oneshot.initial import INITIAL
from latkit.search.oneshot.ranking import RANKED_BY, in_order, mean_score, signs_of
from latkit.spaces.nasbench201.config import NasBench201Config

Set = tuple[str, ...]


def sets() -> dict[str, Set]:
    """Columns by their titles."""
    alone = {name: (name,) for name in (*EVALUATION.columns, *INITIAL.columns, "macs")}
    without = {
        f"all but {name}": tuple(other for other in RANKED_BY if other != name)
        for name in RANKED_BY
    }
    return {
        **alone,
        "AZ-NAS's four": ("expressivity", "progressivity", "trainability", "macs"),
        **without,
        "all, as in the search": RANKED_BY,
    }


class Supernet:
    """The sub-networks of a one-shot search.

    Attributes:
        cells: their identifiers.
        signs: what was found of each, more is better.
    """

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / "result.json").read_text())
        evaluated, initial = (
            pq.read_table(folder / finding.file).slice(0, content["subnets"]["count"]).to_pylist()
            for finding in (EVALUATION, INITIAL)
        )
        self.cells = np.array([row["arch_id"] for row in evaluated], dtype=np.int64)
        network = NasBench201Config.from_dict(content["network"])
        matrix = SPACE.unrank(self.cells)
        self.signs = signs_of(SPACE.name, network, matrix, evaluated, initial)

    def accuracy(self, names: Set) -> Tabulated:
        """Of all cells, as an LPM predicts them that is fitted by these signs."""
        scores = mean_score([self.signs[name] for name in names])
        values = in_order(self.signs[ACCURACY], scores)
        return everywhere(learnt(self.cells, values, ACCURACY, 0))


def judged(
    predicted: Sequence[FloatArray], table: Table, judges: dict[str, Judge], latencies: LPMs
) -> dict[str, Any]:
    """A column's measures.

    Args:
        predicted: by each supernet the accuracies of all cells.
        table: the true ones.
        judges: of the devices.
        latencies: of each device one LPM a supernet.
    """
    better = np.argsort(-table.accuracy)[: SPACE.size // 2]
    found = [
        [
            judge.describe(retargeted(Tabulated(ACCURACY, "%", values), latencies[device][seed]))
            for seed, values in enumerate(predicted)
        ]
        for device, judge in judges.items()
    ]
    shares = np.array([[each["share"] for each in of] for of in found])
    return {
        "spearman": [float(stats.spearmanr(v, table.accuracy)[0]) for v in predicted],
        "spearman_of_the_better_half": [
            float(stats.spearmanr(v[better], table.accuracy[better])[0]) for v in predicted
        ],
        "share_by_supernet": shares.mean(0).tolist(),
        "share": float(shares.mean()),
        "least_share": float(shares.mean(1).min()),
        **{
            name: mean(each[name] for of in found for each in of)
            for name in ("slowdown", "slowdown_at_equal_accuracy")
        },
    }


@one_thread()
def run(table: Table, folders: Sequence[Path]) -> dict[str, Any]:
    """All columns."""
    judges = {name: Judge(table.accuracy, ms) for name, ms in table.latency.items()}
    latencies, _ = predicted_latencies(table, MEASURED, len(folders))
    supernets = [Supernet(folder) for folder in folders]
    columns = {}
    for title, names in sets().items():
        predicted = [supernet.accuracy(names).values for supernet in supernets]
        columns[title] = judged(predicted, table, judges, latencies)
        found = columns[title]
        say(
            f"{found['share']:.4f} (least {found['least_share']:.4f})  Spearman "
            f"{np.mean(found['spearman']):.3f}, better half "
            f"{np.mean(found['spearman_of_the_better_half']):.3f}  {title}"
        )
    return columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of nasbench201/")
    parser.add_argument("--supernets", type=Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.data / "nasbench201"
    if not (folder / "accuracy.parquet").exists():
        raise SystemExit(f"{folder} has no tables: nothing was judged")
    searches = [json.loads((run / "result.json").read_text()) for run in arguments.supernets]
    content = {
        **conditions("ranking"),
        "measurements_per_lpm": MEASURED,
        "supernets": [
            {name: search[name] for name in ("config", "network", "subnets", "history")}
            for search in searches
        ],
        "columns": run(Table.read(folder), arguments.supernets),
    }
    arguments.out.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    say(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
