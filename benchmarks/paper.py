"""Every table and figure of the paper for this machine's devices, through latkit's Python API.

    python benchmarks/paper.py --scale cpu --backend torch-cpu --backend onnxruntime-cpu \\
        --device my-cpu --data PATH --out work
    python benchmarks/paper.py --scale paper --backend torch-cuda --device my-gpu --data cifar10 \\
        --out work

Of each backend: Table 1 (learning curves), Figure 2 (MACs against latency), the ablation of λ with
the networks trained (Figure 4), Table 3 (noise), Table 4 (multiply-adds as the cost), Tables 2 and
5 (latencies of published networks beside those found), the cells (Figures 4 to 7); of several
backends also what each takes for the cells found for the others. Everything is kept in ``--out``,
where the same command goes on after an interruption; it ends in ``results.json`` and
``report.html``.

``--scale cpu`` is scaled down: fewer architectures, small supernets of few epochs on few images,
and small trainings. Its latencies are measured as in the paper; its errors say little about the
paper's. ``--scale paper`` is the paper's, for the owner of a GPU: days, most of them training.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import latkit
from latkit.cli.progress import Terminal
from latkit.core.cores import usable_cores
from latkit.core.files import write_json_atomically

# Table 3: of the prediction in ms, at a mean of some 30 ms.
NOISE_SHARE = 0.025 / 29.1
ERRORS_OF_TABLES = "errors of published networks are not measured: nobody trained them here"


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        setting: of the profiled and predicted networks.
        n: architectures profiled.
        protocol: of profiling.
        search: values of a search besides λ.
        lambdas: of the ablation, in units of one over DARTS_V2's predicted latency, which mean the
            same on every device. The paper's 0.1, 0.15 and 0.2 per ms are 2.9, 4.4 and 5.8 of them.
        noisy: of these, those searched with noise too.
        macs: weights of the multiply-adds in millions (Table 4).
        train: values of a training.
        tables: the paper's tables, each with a setting.
        runs: of a measured network in a row.
        measurements: of each of them.
        kinds: of LPMs whose learning curves are made; the default is the one that is searched with.
        jobs: searches and trainings at once.
    """

    setting: str
    n: int
    protocol: str
    search: Mapping[str, Any]
    lambdas: tuple[float, ...]
    noisy: tuple[float, ...]
    macs: tuple[float, ...]
    train: Mapping[str, Any]
    tables: Mapping[str, str]
    runs: int
    measurements: int = 5
    kinds: tuple[str, ...] = ("default", "paper")
    jobs: int = field(default_factory=usable_cores)


SCALES = {
    "cpu": Scale(
        # Few epochs collapse at the paper's λ: twice 0.1 leaves no convolution in the normal cell.
        "imagenet", 1500, "fast", {"preset": "cpu", "method": "pc-darts"}, (0.0, 0.025, 0.05, 0.1),
        (0.05, 0.1), (0.0001, 0.0002), {"preset": "cpu-small", "seeds": 2, "epochs": 6},
        {"cifar": "cifar,batch=1", "imagenet": "imagenet"}, 20,
    ),
    "paper": Scale(
        "paper", 100_000, "standard", {"preset": "paper", "method": "pc-darts"},
        (0.0, 2.9, 4.4, 5.8), (2.9, 5.8), (0.005, 0.007), {"preset": "cifar", "seeds": 3},
        {"cifar": "cifar", "imagenet": "paper"}, 200, jobs=1,
    ),
    # Nothing but a test of this file.
    "test": Scale(
        "tiny,cells=3,channels=4,resolution=8", 24, "paper",
        {"preset": "cpu", "method": "pc-darts", "cells": 3, "channels": 4, "epochs": 1,
         "warmup_epochs": 0, "batch": 8},
        (0.0, 1.0), (), (),
        {"preset": "cpu-small", "seeds": 2, "epochs": 1, "cells": 3, "channels": 2, "batch": 8},
        {"cifar": "tiny,cells=3,channels=4,resolution=32"}, 3, 2, ("default",), jobs=1,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """What is done, on what, and where it is kept."""

    scale: Scale
    device: str
    backends: tuple[str, ...]
    data: str
    out: Path
    listener: latkit.Listener

    def run(self) -> dict[str, Any]:
        """All of it; the content of ``results.json``."""
        os.environ["LATKIT_REGISTRY"] = str(self.out / "registry")
        devices = {backend: self.device_results(backend) for backend in self.backends}
        found = {
            search["genotype"]: f"{backend} {kind} {search['name']}"
            for backend, results in devices.items()
            for kind, searches in results["searches"].items()
            for search in searches
        }
        errors = self.train(self.to_train(devices))
        for results in devices.values():
            for searches in results["searches"].values():
                for search in searches:
                    search["test_error_percent"] = errors.get(search["genotype"])
        return {
            "date": date.today().isoformat(),
            "scaled_down": self.scale is not SCALES["paper"],
            "device": self.device,
            "data": self.data,
            "scale": {k: v for k, v in vars(self.scale).items() if k != "jobs"},
            "devices": devices,
            "tables": {backend: self.tables(backend, list(found)) for backend in self.backends},
            "errors_of_tables": ERRORS_OF_TABLES,
        }

    # --- one device ------------------------------------------------------------------------

    def device_results(self, backend: str) -> dict[str, Any]:
        """Dataset, learning curves, LPM and searches."""
        self.listener.note(f"\n{backend}: profile")
        dataset = self.out / "datasets" / backend
        profiled = latkit.profile(
            n=self.scale.n, setting=self.scale.setting, backend=backend, device=self.device,
            protocol=self.scale.protocol, out=dataset, listener=self.listener,
        )  # fmt: skip
        curves = {kind: self.learning_curve(backend, kind) for kind in self.scale.kinds}
        lpm = latkit.load_lpm(f"{self.device}/{backend}")
        (reference,) = lpm.predict("darts_v2")
        return {
            "dataset": profiled.summary.to_dict(),
            "learning_curve": curves,
            "lpm": {"reference": lpm.reference, "metrics": lpm.card.metrics},
            "darts_v2_predicted_ms": reference.value,
            "searches": {
                kind: list(self.sweep(backend, kind, reference.value))
                for kind in ("lambda", "noise", "macs")
            },
        }

    def learning_curve(self, backend: str, kind: str) -> list[dict[str, Any]]:
        """Table 1; of the default kind the LPM is published."""
        path = self.out / "curves" / f"{backend}-{kind}.json"
        if not path.exists():
            self.listener.note(f"{backend}: learning curve of the kind {kind}")
            trained = latkit.train_lpm(
                self.out / "datasets" / backend, kind=kind, learning_curve=True,
                publish=kind == "default", listener=self.listener,
            )  # fmt: skip
            path.parent.mkdir(exist_ok=True)
            write_json_atomically(path, trained.to_dict())
        curve: list[dict[str, Any]] = json.loads(path.read_text())["learning_curve"]
        return curve

    def sweep(self, backend: str, kind: str, reference_ms: float) -> Iterator[dict[str, Any]]:
        """The ablation of λ; some of it with noise (Table 3); multiply-adds (Table 4)."""
        scale, values = self.scale, dict(self.scale.search)
        weights = [share / reference_ms for share in scale.lambdas]
        if kind == "noise":
            weights = [share / reference_ms for share in scale.noisy]
            values["lpm_noise"] = NOISE_SHARE * reference_ms
        elif kind == "macs":
            weights, values["cost"] = list(scale.macs), "macs"
        if not weights:
            return
        self.listener.note(f"\n{backend}: searches, {kind}")
        result = latkit.search(
            device=f"{self.device}/{backend}", data=self.data, sweep_lambda=tuple(weights),
            jobs=min(scale.jobs, len(weights)), out=self.out / "searches" / backend / kind,
            listener=self.listener, **values,
        )  # fmt: skip
        assert isinstance(result, latkit.SweepResult)
        result.check()
        for row, weight in zip(result.searches, weights, strict=True):
            share = weight * reference_ms if kind != "macs" else None
            yield {**row.to_dict(), "lambda_times_darts_v2": share}

    # --- all of them -----------------------------------------------------------------------

    def to_train(self, devices: Mapping[str, Any]) -> list[str]:
        """The genotypes of the ablations and of Table 4, each once."""
        kinds = ("lambda", "macs")
        return list(dict.fromkeys(
            search["genotype"]
            for results in devices.values() for kind in kinds
            for search in results["searches"][kind]
        ))  # fmt: skip

    def train(self, genotypes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Test errors of found networks, trained from scratch, several at a time."""
        self.listener.note(f"\ntraining {len(genotypes)} networks")
        (self.out / "trainings").mkdir(exist_ok=True)
        jobs = min(self.scale.jobs, len(genotypes))
        train = functools.partial(
            train_one, out=self.out / "trainings", data=self.data, values=dict(self.scale.train),
            threads=max(1, usable_cores() // jobs),
        )  # fmt: skip
        if jobs == 1:
            return dict(zip(genotypes, map(train, genotypes), strict=True))
        spawn = multiprocessing.get_context("spawn")
        errors = {}
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
            running = {pool.submit(train, genotype): genotype for genotype in genotypes}
            for done in concurrent.futures.as_completed(running):
                errors[running[done]] = done.result()
                self.listener.note(f"{len(errors)} of {len(genotypes)} trained: {done.result()}")
        return errors

    def tables(self, backend: str, found: list[str]) -> dict[str, Any]:
        """Tables 2 and 5, and what was found for every device, measured side by side."""
        tables = {}
        for table, setting in self.scale.tables.items():
            self.listener.note(f"\n{backend}: table {table}")
            result = latkit.measure(
                tuple(found), table=table, setting=setting, backend=backend, device=self.device,
                runs=self.scale.runs, measurements=self.scale.measurements,
                out=self.out / "measurements" / f"{backend}-{table}", listener=self.listener,
            )  # fmt: skip
            tables[table] = {"setting": setting, **result.to_dict(), "out": None}
        return tables

    def write(self, results: Mapping[str, Any]) -> None:
        """``results.json`` and the report, as a page and as numbers."""
        write_json_atomically(self.out / "results.json", dict(results))
        scale = "scaled down" if results["scaled_down"] else "at its scale"
        title = f"The paper's tables and figures on {self.device}, {scale}"
        places = ("datasets", "curves", "searches", "trainings", "measurements")
        lpms = [f"{self.device}/{backend}" for backend in self.backends]
        os.chdir(self.out)  # the report calls its inputs by these names
        for name in ("report.html", "report.json"):
            latkit.report([*places, *lpms], out=name, title=title)


def train_one(
    genotype: str, out: Path, data: str, values: dict[str, Any], threads: int
) -> dict[str, Any]:
    """The test error of a network over its seeds, in percent."""
    import torch

    torch.set_num_threads(threads)
    name = hashlib.sha256(genotype.encode()).hexdigest()[:8]
    result = latkit.train(genotype, data=data, out=out / name, **values)
    assert result is not None
    interval = result.test_error_percent
    return {
        "mean": interval.mean, "low": interval.low, "high": interval.high,
        "seeds": [seed.test_error_percent for seed in result.seeds],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", choices=SCALES, required=True)
    parser.add_argument("--backend", action="append", required=True, help="repeat it for several")
    parser.add_argument("--device", required=True, help="your short name for the hardware")
    parser.add_argument("--data", default="cifar10", help="as of latkit search --data")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    out = given.out.resolve()
    study = Study(
        SCALES[given.scale], given.device, tuple(given.backend), given.data, out, Terminal()
    )
    try:
        study.write(study.run())
    except (latkit.LatkitError, KeyboardInterrupt) as error:
        sys.exit(f"{str(error) or 'interrupted'}; the same command goes on")
    print(out / "report.html")


if __name__ == "__main__":
    main()
