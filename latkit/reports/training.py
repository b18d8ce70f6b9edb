"""What a training gave."""

from __future__ import annotations

from collections.abc import Iterator

from latkit.reports.parts import Caution, Line, Note, Part, Table, number
from latkit.training.result import TRAINING, TrainingResult


def training_parts(result: TrainingResult) -> Iterator[Part]:
    """A training's result as a table and lines."""
    plan, data = result.plan, result.data
    yield Table(
        f"trained on {data['name']}, tested on {data['test_images']} images",
        ["seed", "test error %, last epoch", "least test error %", "of epoch", "train error %"],
        [
            [
                str(seed.seed),
                number(seed.test_error_percent, 2),
                number(seed.best_test_error_percent, 2),
                str(seed.best_epoch),
                number(seed.history[-1]["train_error_percent"], 2),
            ]
            for seed in result.seeds
        ],
    )
    interval, count = result.test_error_percent, len(result.seeds)
    error = f"test error {interval.mean:.2f} %"
    if interval.low is None:
        yield Line(f"{error} (one seed, no interval)")
    else:
        yield Line(
            f"{error}, between {interval.low:.2f} and {interval.high:.2f} % with "
            f"{interval.confidence:.0%} confidence ({count} seeds, last epoch)"
        )
    yield Note(
        f"{plan.space.name}, {result.params / 1e6:.3f} M parameters, {result.macs / 1e6:.1f} M "
        f"MACs, trained on {result.trained_on}"
    )
    yield Note("the least test error is chosen by the test images: compare those of the last epoch")
    if plan.is_scaled_down:
        yield Caution("scaled down: these errors are not comparable with published ones")
    yield Note(f"result: {result.out / TRAINING}; weights: {result.weights(result.seeds[0].seed)}")


def export_command(result: TrainingResult) -> str:
    """How the trained network becomes an ONNX file."""
    out = result.out
    return f"latkit export {out / TRAINING} --weights {out} --out {out / 'network.onnx'}"
