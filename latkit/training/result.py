"""What a training gave: ``training.json``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.core.errors import LatkitError, SpaceError, TrainingError, from_os_error
from latkit.core.json_files import read_json_file
from latkit.core.version import __version__
from latkit.spaces import NetworkConfig, Setting, get_space
from latkit.spaces.architecture import architecture_cost
from latkit.training.history import HistoryRow, best_row
from latkit.training.request import TrainingPlan
from latkit.training.weights import BEST, LAST

TRAINING = "training.json"
KIND, FORMAT_VERSION = "training", 1
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """The mean of the seeds' test errors, and where the mean of all seeds is.

    Attributes:
        mean: in percent.
        low, high: of Student's interval; None: of one seed nothing is known.
        confidence: of the interval.
    """

    mean: float
    low: float | None
    high: float | None
    confidence: float = CONFIDENCE

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Of one number for each seed."""
        mean, count = statistics.fmean(values), len(values)
        if count < 2:
            return cls(mean, None, None)
        from scipy.stats import t

        spread = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * statistics.stdev(values)
        half = spread / math.sqrt(count)
        return cls(mean, mean - half, mean + half)


@dataclass(frozen=True)
class SeedResult:
    """One training.

    Attributes:
        seed: its seed.
        history: a row for each epoch, see ``latkit.training.history``.
    """

    seed: int
    history: Sequence[HistoryRow]

    @property
    def test_error_percent(self) -> float:
        """Of the last epoch."""
        return float(self.history[-1]["test_error_percent"])

    @property
    def best_epoch(self) -> int:
        """The first with the least test error."""
        return int(best_row(self.history)["epoch"])

    @property
    def best_test_error_percent(self) -> float:
        """The least of all epochs: chosen by the test images, so an optimistic number."""
        return float(best_row(self.history)["test_error_percent"])

    def to_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "test_error_percent": self.test_error_percent,
            "best_test_error_percent": self.best_test_error_percent,
            "best_epoch": self.best_epoch,
            "history": [dict(row) for row in self.history],
        }


@dataclass(frozen=True)
class TrainingResult:
    """A training of one architecture from one or several seeds.

    Attributes:
        plan: what was trained, and how; its network is the trained one.
        data: the images, see ``TrainingData.to_dict``.
        params, macs: of the network, without what belongs to training alone.
        trained_on: name of the device.
        seeds: the trainings.
        out: folder of the training.
    """

    plan: TrainingPlan
    data: Mapping[str, Any]
    params: int
    macs: int
    trained_on: str
    seeds: tuple[SeedResult, ...]
    out: Path

    @classmethod
    def of(
        cls,
        plan: TrainingPlan,
        data: Mapping[str, Any],
        trained_on: str,
        seeds: Sequence[SeedResult],
        out: Path,
    ) -> TrainingResult:
        """The result, with the analytic costs of the network."""
        cost = architecture_cost(plan.architecture, Setting(plan.network))
        return cls(plan, data, cost.params, cost.macs, trained_on, tuple(seeds), out)

    @property
    def test_error_percent(self) -> Interval:
        """Of the last epoch, over the seeds."""
        return Interval.of([seed.test_error_percent for seed in self.seeds])

    def weights(self, seed: int, best: bool = False) -> Path:
        """The file of a seed's weights, after the last epoch or the best one."""
        return seed_folder(self.out, seed) / (BEST if best else LAST)

    def to_dict(self) -> dict[str, Any]:
        plan, interval = self.plan, self.test_error_percent
        return {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "latkit_version": __version__,
            "space": plan.space.name,
            "genotype": str(plan.architecture),
            "arch": _arch_text(plan),
            "network": plan.network.to_dict(),
            "data": dict(self.data),
            "config": plan.config.to_dict(),
            "preset": plan.preset,
            "scaled_down": plan.is_scaled_down,
            "params": self.params,
            "macs": self.macs,
            "trained_on": self.trained_on,
            "seeds": [seed.to_dict() for seed in self.seeds],
            "test_error_percent": {
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "confidence": interval.confidence,
            },
        }


def seed_folder(out: Path, seed: int) -> Path:
    """Where a seed's files are."""
    return out / f"seed-{seed}"


def trained_network(out: Path) -> tuple[Path, NetworkConfig]:
    """Of a training's folder the last weights of its first seed, and the network they are of.

    Raises:
        TrainingError: the training has no result yet, or it is corrupt.
        LatkitError: it cannot be read.
    """
    path = out / TRAINING
    try:
        content = read_json_file(path)
        if content["kind"] != KIND or content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"version {content['format_version']} of {content['kind']}")
        network = get_space(content["space"]).config.from_dict(content["network"])
        return seed_folder(out, int(content["seeds"][0]["seed"])) / LAST, network
    except FileNotFoundError:
        raise TrainingError(
            f"{out} has no {TRAINING}: it is no finished training",
            "name a *.safetensors file, or the --out of latkit train when it is done",
        ) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except LatkitError as error:
        raise TrainingError(f"{path}: {error.cause}", error.fix) from None
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise TrainingError(
            f"{path} is not a training of format version {FORMAT_VERSION} ({error!r})",
            "name a *.safetensors file, or train again",
        ) from None


def _arch_text(plan: TrainingPlan) -> str | None:
    """The canonical text, as datasets have it; None: the network is no point of the space."""
    try:
        return plan.space.format(plan.space.row_of(plan.architecture))
    except SpaceError:
        return None
