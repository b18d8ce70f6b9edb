"""What the searches of ``front_searches.py`` found and cost, against one supernet for all devices.

A *pass* is over one batch of images. Passes of training are forward and backward (LA-DARTS has two
in a step: one moves α, one the weights); passes of evaluation are forward alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.front_judge import CELLS, SPACE, Cells
from latkit.search.config import preset

# The methods of front_searches.py.
SWEEP, HYPERNETWORK = "sweep", "hypernetwork"


@dataclass(frozen=True)
class Passes:
    """Passes over batches.

    Attributes:
        training: forward and backward.
        evaluation: forward alone.
        images: of all of them; one that is in several passes counts in each.
    """

    training: int = 0
    evaluation: int = 0
    images: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(
            self.training + other.training,
            self.evaluation + other.evaluation,
            self.images + other.images,
        )

    def __mul__(self, times: float) -> Passes:
        return Passes(
            round(times * self.training), round(times * self.evaluation), round(times * self.images)
        )

    def over(self, other: Passes) -> dict[str, float]:
        """How many times the other's they are, in passes and in images."""
        passes = [each.training + each.evaluation for each in (self, other)]
        return {"passes": passes[0] / passes[1], "images": self.images / other.images}


@dataclass(frozen=True)
class Found:
    """What one file of ``front_searches.py`` holds.

    Attributes:
        method: of the searches.
        columns: by name, of each device its cells.
        searches: how many there were.
        passes: of all of them.
        cpu_seconds: likewise.
    """

    method: str
    columns: dict[str, dict[str, Cells]]
    searches: int
    passes: Passes
    cpu_seconds: float

    @classmethod
    def read(cls, path: Path) -> Found:
        """The file's searches together: a column has the cells of all of them."""
        content = json.loads(path.read_text())
        columns: dict[str, dict[str, list[int]]] = {}
        passes = Passes()
        for search in content["searches"]:
            passes += Passes(**search["passes"])
            for name, devices in search["columns"].items():
                for device, cells in devices.items():
                    columns.setdefault(name, {}).setdefault(device, []).extend(cells)
        return cls(
            content["method"],
            {
                name: {device: np.unique(cells) for device, cells in devices.items()}
                for name, devices in columns.items()
            },
            len(content["searches"]),
            passes,
            sum(search["cpu_seconds"] for search in content["searches"]),
        )

    def account(self) -> dict[str, Any]:
        """What it cost, as JSON."""
        devices = {device for cells in self.columns.values() for device in cells}
        return {
            "searches": self.searches,
            "devices": len(devices),
            "passes": asdict(self.passes),
            "cpu_seconds_per_device": self.cpu_seconds / len(devices),
        }


def passes_of_supernet(result: dict[str, Any]) -> Passes:
    """Of a one-shot search, by its ``result.json``: training, and of each sub-network an evaluation
    and a pass of noise, forward and backward, through its initial weights."""
    config, subnets = result["config"], result["subnets"]
    steps = config["epochs"] * (result["data"]["images"] // 2 // config["batch"])
    training, count = steps * config["paths"], subnets["count"]
    return Passes(
        training + count,
        count * (subnets["images"] // subnets["batch"]),
        training * config["batch"] + count * (subnets["images"] + subnets["noise_images"]),
    )


def passes_of_sweep(searches: int, images: int, batch: int) -> Passes:
    """Of LA-DARTS with as many epochs as the paper has (section 4.1), first order.

    Args:
        searches: how many.
        images: half of which train the weights, half α.
        batch: images of a batch.
    """
    training = 2 * preset("paper", "darts", SPACE.name).epochs * (images // 2 // batch) * searches
    return Passes(training, 0, training * batch)


def account(found: Iterable[Found], supernets: Sequence[Path], devices: int) -> dict[str, Any]:
    """The costs of every method, and of one supernet against the sweeps over λ.

    What is named ``computed`` was not run: a search for each device and each of ``CELLS`` targets.

    Args:
        found: of ``front_searches.py``.
        supernets: folders of one-shot searches, each trained once for all devices.
        devices: how many are retargeted to.
    """
    searches = devices * CELLS
    result: dict[str, Any] = {}
    sweep: Passes | None = None
    for each in found:
        result[each.method] = each.account()
        if each.method == SWEEP:
            sweep = each.passes * (searches / each.searches)
            result[each.method]["computed_for_all_targets"] = asdict(sweep)
    rows = []
    for path in supernets:
        content = json.loads((path / "result.json").read_text())
        supernet = passes_of_supernet(content)
        images, batch = content["data"]["images"], content["config"]["batch"]
        whole = passes_of_sweep(searches, images, batch)
        rows.append(
            {
                "passes": asdict(supernet),
                "passes_per_device": 0,
                "over_computed_sweep_at_the_scale_it_was_run": None
                if sweep is None
                else supernet.over(sweep),
                "over_computed_sweep_of_paper_epochs_on_the_supernet_images": supernet.over(whole),
            }
        )
    return {**result, "supernets": rows}
