"""What was found for devices and targets, trained and measured: scaled down, on two CPU runtimes.

    python benchmarks/winners.py fbnet --data ../shared/data/cifar10 --out work \\
        > benchmarks/results/DATE-fbnet-winners.json
    python benchmarks/winners.py darts --data ../shared/data/cifar10 --out work \\
        > benchmarks/results/DATE-darts-winners.json

*fbnet*: one one-shot search, retargeted to eager PyTorch and to ONNX Runtime on the CPU that is
here, with the median of the predicted latencies as the limit of each; both winners are measured in
both. *darts*: one one-shot search, retargeted to three targets, against a search of LA-PC-DARTS for
each of them, of as many epochs as take the same CPU time in all. Winners are trained with
``--preset cpu-small`` from two seeds, or ``--seeds``. All of it is done by the commands that a user
would give, each once: what was done is kept in ``--out``, and an interrupted run goes on (for more
seeds, remove ``trained-*.json``). Nothing else should run while networks are measured: ``--until
profiled``, ``searched`` and ``trained`` end before a part that needs a quiet machine, or after it.
Prints JSON, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import latkit
from benchmarks.commands import Commands
from benchmarks.conditions import conditions
from latkit.spaces import get_space

RUNTIMES = ("torch-cpu", "onnxruntime-cpu")
PROFILED = 100
# A machine that others disturb leaves some architectures for the next time.
PROFILES = 5
STAGES = ("profiled", "searched", "trained", "measured")

FBNET_SETTING = "fbnet-cpu"
FBNET_SEARCH = (
    "--space", "fbnet", "--preset", "cpu", "--limit", "20000", "--epochs", "6",
    "--weight-lr", "0.02", "--subnets", "300", "--eval-images", "512",
)  # fmt: skip

DARTS_SETTING = "cifar,cells=5,channels=8"
DARTS_SEARCH = ("--preset", "cpu", "--limit", "10000")
DARTS_ONE_SHOT = (
    *DARTS_SEARCH, "--epochs", "20", "--weight-lr", "0.05", "--subnets", "200",
    "--eval-images", "1024",
)  # fmt: skip
DARTS_QUANTILES = (0.2, 0.5, 0.8)
# Random architectures, of whose predicted latencies limits and targets are quantiles.
DRAWN = 1000


class Winners:
    """The steps that both comparisons have in common.

    Args:
        commands: run them.
        data: the images.
        seeds: that each winner is trained from.
    """

    def __init__(self, commands: Commands, data: str, seeds: int) -> None:
        self._commands, self._data, self._seeds = commands, data, seeds

    def profiled(self, space: str, backend: str, setting: str) -> dict[str, Any]:
        """What an LPM of the device that is here is made from, and how good it is."""
        folder = self._commands.folder / f"{space}-{backend}"
        kept = folder.with_suffix(".json")
        if not kept.exists():
            for _ in range(PROFILES):
                summary = self._commands.latkit(
                    "profile", "--space", space, "--backend", backend, "--setting", setting,
                    "--device", "here", "--n", str(PROFILED), "--out", str(folder),
                )  # fmt: skip
            lpm = self._commands.latkit("train-lpm", str(folder))
            kept.write_text(json.dumps({"dataset": summary, "lpm": lpm}))
        return dict(json.loads(kept.read_text()))

    def quantiles(self, space: str, backend: str, shares: Sequence[float]) -> list[float]:
        """Of the latencies that the LPM predicts of random architectures, in ms."""
        registry = latkit.Registry(str(self._commands.folder / "registry"))
        lpm = latkit.load_lpm(f"here/{backend}@1", space, registry=registry)
        drawn = get_space(space).sample(DRAWN, 0).tolist()
        latencies = [prediction.value for prediction in lpm.predict(drawn)]
        return [round(float(value), 3) for value in np.quantile(latencies, shares)]

    def searched(self, name: str, *options: str) -> dict[str, Any]:
        return self._commands.once(name, "search", "--data", self._data, *options, costs=True)

    def retargeted(self, name: str, run: str, *options: str) -> dict[str, Any]:
        folder = str(self._commands.folder / run)
        return self._commands.once(name, "retarget", folder, *options, costs=True)

    def trained(self, space: str, found: Mapping[str, str]) -> dict[str, Any]:
        """Of each architecture the test errors of all seeds."""
        return {
            name: self._commands.once(
                f"trained-{name}", "train", arch, "--space", space, "--data", self._data,
                "--preset", "cpu-small", "--seeds", str(self._seeds),
            )
            for name, arch in found.items()
        }  # fmt: skip

    def measured(
        self, space: str, backend: str, setting: str, found: Mapping[str, str]
    ) -> dict[str, Any]:
        """All architectures together, in alternation, by a standard measurement."""
        return self._commands.once(
            f"measured-{space}-{backend}", "measure", *dict.fromkeys(found.values()),
            "--backend", backend, "--setting", setting, "--measurements", "15",
        )  # fmt: skip


def fbnet(winners: Winners, until: str) -> dict[str, Any]:
    """One one-shot search for two runtimes."""
    lpms = {of: winners.profiled("fbnet", of, FBNET_SETTING) for of in RUNTIMES}
    if until == "profiled":
        return {}
    search = winners.searched("fbnet", "--method", "one-shot", *FBNET_SEARCH)
    limits = {of: winners.quantiles("fbnet", of, (0.5,))[0] for of in RUNTIMES}
    found = {
        of: winners.retargeted(
            f"fbnet-for-{of}", "fbnet", "--device", f"here/{of}@1", "--max-ms", str(limits[of])
        )
        for of in RUNTIMES
    }
    content: dict[str, Any] = {
        "lpms": {of: _lpm(found) for of, found in lpms.items()},
        "search": _one_shot(search),
        "max_ms": limits,
        "found": {of: _retargeted(result) for of, result in found.items()},
    }
    archs = {f"fbnet-for-{of}": result["genotype"] for of, result in found.items()}
    if until != "searched":
        content["trained"] = _trained(winners.trained("fbnet", archs))
    if until == "measured":
        content["measured"] = {
            of: _measured(winners.measured("fbnet", of, FBNET_SETTING, archs), archs)
            for of in RUNTIMES
        }
    return content


def darts(winners: Winners, until: str) -> dict[str, Any]:
    """One one-shot search against searches of LA-PC-DARTS, for three targets of one device."""
    backend, device = RUNTIMES[0], ("--device", f"here/{RUNTIMES[0]}@1")
    lpm = winners.profiled("darts", backend, DARTS_SETTING)
    if until == "profiled":
        return {}
    targets = winners.quantiles("darts", backend, DARTS_QUANTILES)
    search = winners.searched("darts", "--method", "one-shot", *DARTS_ONE_SHOT)
    found = {
        f"retargeted-{ms}": winners.retargeted(
            f"retargeted-{ms}", "darts", *device, "--target-ms", str(ms)
        )
        for ms in targets
    }
    cpu_seconds = search["cpu_seconds"] + sum(of["cpu_seconds"] for of in found.values())
    # What an epoch takes says how many epochs take the same time in all.
    pc_darts = ("--method", "pc-darts", *device, *DARTS_SEARCH)
    pilot = winners.searched("pilot", *pc_darts, "--target-ms", str(targets[1]), "--epochs", "2")
    epochs = round(2 * cpu_seconds / len(targets) / pilot["cpu_seconds"])
    searches = {
        f"pc-darts-{ms}": winners.searched(
            f"pc-darts-{ms}", *pc_darts, "--target-ms", str(ms), "--epochs", str(epochs)
        )
        for ms in targets
    }
    content: dict[str, Any] = {
        "lpm": _lpm(lpm),
        "targets_ms": targets,
        "cpu_seconds": {
            "one-shot and retargeting": cpu_seconds,
            "pc-darts": sum(of["cpu_seconds"] for of in searches.values()),
        },
        "pc_darts_epochs": epochs,
        "search": _one_shot(search),
        "found": {name: _retargeted(of) for name, of in found.items()}
        | {name: _searched(of) for name, of in searches.items()},
    }
    archs = {name: of["genotype"] for name, of in (found | searches).items()}
    if until != "searched":
        content["trained"] = _trained(winners.trained("darts", archs))
    if until == "measured":
        content["measured"] = _measured(
            winners.measured("darts", backend, DARTS_SETTING, archs), archs
        )
    return content


# --- what of an answer is told: no paths ------------------------------------------------------


def _lpm(profiled: Mapping[str, Any]) -> dict[str, Any]:
    dataset, lpm = profiled["dataset"], profiled["lpm"]
    names = ("architectures", "architectures_unusable", "latency_ms", "retest_sd_percent")
    return {**{name: dataset[name] for name in names}, "metrics": lpm["metrics"]}


def _one_shot(search: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: search[name]
        for name in ("network", "config", "history", "subnets", "accuracy_lpm", "cpu_seconds")
    }


def _retargeted(result: Mapping[str, Any]) -> dict[str, Any]:
    names = ("genotype", "points", "wanted", "evaluated", "exhaustive", "warnings", "cpu_seconds")
    return {name: result[name] for name in names}


def _searched(search: Mapping[str, Any]) -> dict[str, Any]:
    return {name: search[name] for name in ("genotype", "arch", "found", "cpu_seconds")}


def _trained(trained: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    names = ("test_error_percent", "params", "macs", "config")
    return {
        name: {of: result[of] for of in names}
        | {"by_seed": [seed["test_error_percent"] for seed in result["seeds"]]}
        for name, result in trained.items()
    }


def _measured(result: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
    rows = {row["what"]: row for row in result["rows"]}
    return {name: rows[arch] for name, arch in found.items()}


COMPARISONS = {"fbnet": fbnet, "darts": darts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparison", choices=list(COMPARISONS))
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1])
    arguments = parser.parse_args()
    one_thread = {"OMP_NUM_THREADS": "1"}
    winners = Winners(Commands(arguments.out, one_thread), arguments.data, arguments.seeds)
    content = {
        **conditions("winners"),
        "scaled_down": True,
        **COMPARISONS[arguments.comparison](winners, arguments.until),
    }
    json.dump(content, sys.stdout, indent=1, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
