"""What a one-shot search gave."""

from __future__ import annotations

from collections.abc import Iterator

from latkit.reports.lpm import metric_rows
from latkit.reports.parts import Line, Note, Part, Table, number
from latkit.search.oneshot.accuracy import FOLDER
from latkit.search.oneshot.evaluation import EVALUATION
from latkit.search.oneshot.result import OneShotResult


def one_shot_parts(result: OneShotResult) -> Iterator[Part]:
    """A one-shot search's result as a table and lines."""
    subnets, last = result.subnets, result.history[-1]
    yield Line(
        f"{subnets.count} sub-networks with shared weights: held-out accuracy "
        f"{number(subnets.lowest, 2)} to {number(subnets.highest, 2)} %, median "
        f"{number(subnets.median, 2)} % ({subnets.images} images)"
    )
    yield Table(
        f"accuracy LPM, cross-validated on the {subnets.count} sub-networks",
        ["", "LPM", "straight line in MACs"],
        metric_rows(result.card),
    )
    yield Note(
        f"{result.space} on {result.data['name']}: {len(result.history)} epochs, train loss "
        f"{number(last['train_loss'], 3)}; these accuracies are not those of networks that are "
        "trained alone"
    )
    yield Note(
        f"accuracy LPM: {result.out / FOLDER}; result: {result.out / 'result.json'}; sub-networks: "
        f"{result.out / EVALUATION.file}"
    )
