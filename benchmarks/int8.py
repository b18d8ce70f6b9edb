"""Networks in int8 against the same in fp32, with ONNX Runtime on the CPU.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/int8.py > benchmarks/results/DATE-int8.json

Each architecture is measured in both precisions one after the other, by the standard protocol of
``latkit profile`` with an anchor network in the same precision, and all of them twice. Told of each
precision: the latencies, the standard deviation of one measurement, the share of disturbed ones
(which count here), and the CPU time of getting a network ready and releasing it. Told of both
together: the Spearman correlation, and the ratios of int8 to fp32.

A few architectures are quantised by ``onnxruntime.quantization.quantize_static`` too, with
activations in uint8, as latkit has them, and in int8: CPU time of quantising, runs of all sessions
in alternation (the mean of the faster half, by CPU time), and the operators of the graphs once ONNX
Runtime has optimised them. Nothing else should run meanwhile. Prints JSON, progress to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import onnx
from onnxruntime import __version__ as runtime_version
from onnxruntime import quantization
from scipy.stats import spearmanr

from benchmarks.conditions import conditions
from latkit.backends import BACKENDS, Backend
from latkit.backends.onnxruntime_int8 import int8_network
from latkit.backends.onnxruntime_session import CPU, session_options, start_session
from latkit.dataset.statistics import RetestError
from latkit.networks.onnx_model import INPUT, OnnxNetwork
from latkit.profiling.protocol import PRESETS, Measurement
from latkit.profiling.session import Session
from latkit.spaces import Architecture, Setting, get_space, parse_setting
from latkit.spaces.build import random_input, random_network, random_onnx

BACKEND = "onnxruntime-cpu"
PRECISIONS = ("fp32", "int8")
PASSES = 2


class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
    """One batch for the tool."""

    def __init__(self, images: Any) -> None:
        self._images = iter([{INPUT: images}])

    def get_next(self) -> Any:
        return next(self._images, None)


def measured(
    backend: Backend, architectures: list[Architecture], setting: Setting
) -> dict[str, Any]:
    """All architectures in both precisions, twice, by the standard protocol of ``profile``."""
    settings = {precision: setting.replace(precision=precision) for precision in PRECISIONS}
    done: dict[str, list[list[Measurement]]] = {name: [] for name in PRECISIONS}
    ready_ms: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    with contextlib.ExitStack() as stack:
        sessions = {
            name: stack.enter_context(Session(backend, of, PRESETS["standard"]))
            for name, of in settings.items()
        }
        for repeat in range(PASSES):
            for place, architecture in enumerate(architectures):
                for name, session in sessions.items():
                    gc.collect()
                    started = time.process_time()
                    runner = backend.compile(architecture, settings[name])
                    got_ready = time.process_time()
                    measurement = session.measure_runner(runner)
                    releasing = time.process_time()
                    runner.close()
                    spent = time.process_time() - releasing + got_ready - started
                    ready_ms[name].append(spent * 1e3)
                    if not repeat:
                        done[name].append([])
                    done[name][place].append(measurement)
                print(f"pass {repeat}, architecture {place}", file=sys.stderr)
    latencies, facts = {}, {}
    for name, of_all in done.items():
        flat = [m for of_one in of_all for m in of_one]
        anchor_ms = statistics.median(ms for m in flat for ms in m.anchor_samples_ms)
        estimates = [statistics.fmean(m.ratio_to_anchor for m in of_one) for of_one in of_all]
        latencies[name] = [anchor_ms * estimate for estimate in estimates]
        retest = RetestError(
            (place, m.ratio_to_anchor) for place, of_one in enumerate(of_all) for m in of_one
        )
        facts[name] = {
            "latency_ms": summary(latencies[name]),
            "retest_sd_percent": None if retest.sd is None else 100 * retest.sd,
            "disturbed_percent": 100 * statistics.fmean(m.disturbed for m in flat),
            "ready_cpu_ms": statistics.median(ready_ms[name]),
        }
    fp32, int8 = latencies["fp32"], latencies["int8"]
    return {
        "architectures": len(architectures),
        "precisions": facts,
        "ratio": summary([b / a for a, b in zip(fp32, int8, strict=True)]),
        "spearman": float(spearmanr(fp32, int8).statistic),
    }


def summary(values: list[float]) -> dict[str, float]:
    return {
        "least": min(values), "median": statistics.median(values), "largest": max(values)
    }  # fmt: skip


def by_tool(fp32: Path, images: Any, activations: str, folder: Path) -> bytes:
    """An ONNX file as ``quantize_static`` makes it, with a scale for each channel of weights.

    Args:
        fp32: the network.
        images: that it is calibrated on.
        activations: their type; weights are in int8.
        folder: for files.
    """
    made = folder / "int8.onnx"
    quantization.quantize_static(
        fp32, made, Images(images), per_channel=True,
        quant_format=quantization.QuantFormat.QDQ, weight_type=quantization.QuantType.QInt8,
        activation_type=quantization.QuantType[activations],
    )  # fmt: skip
    return made.read_bytes()


def quantized(
    architecture: Architecture, setting: Setting, runs: int, folder: Path
) -> dict[str, Any]:
    """One architecture, by latkit, and by the tool with activations in uint8 and in int8."""
    images = random_input(setting, 0).numpy()
    random_onnx(architecture, setting, 0, merged=True).write(folder / "fp32.onnx")
    kinds: dict[str, Callable[[], tuple[bytes, dict[str, Any]]]] = {
        "tool": lambda: (by_tool(folder / "fp32.onnx", images, "QUInt8", folder), {}),
        "tool, int8 activations": lambda: (
            by_tool(folder / "fp32.onnx", images, "QInt8", folder), {}
        ),
        "latkit": lambda: _content(int8_network(architecture, setting, 0)),
    }  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    sessions = {}
    for name, make in kinds.items():
        started = time.process_time()
        content, weights = make()
        quantizing_ms = (time.process_time() - started) * 1e3
        options = session_options(weights, threads=1, profile=None)
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        sessions[name] = start_session(content, options, CPU, {})
        graph = onnx.load(folder / "optimized.onnx").graph
        operators = dict(Counter(sorted(node.op_type for node in graph.node)))
        found[name] = {"quantizing_cpu_ms": quantizing_ms, "operators": operators}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    wanted = random_network(architecture, setting, 0)(random_input(setting, 0)).detach().numpy()
    for _ in range(runs):
        for name, session in sessions.items():
            started = time.process_time()
            logits = session.run(None, {INPUT: images})[0]
            times[name].append((time.process_time() - started) * 1e3)
            norms = np.linalg.norm(logits) * np.linalg.norm(wanted)
            found[name]["cosine_to_fp32"] = float((logits * wanted).sum() / norms)
    for name, of in times.items():
        found[name]["run_ms"] = statistics.fmean(sorted(of)[: runs // 2])
    same = found["tool"]["operators"] == found["latkit"]["operators"]
    return {"same_operators": same, **found}


def _content(network: OnnxNetwork) -> tuple[bytes, dict[str, Any]]:
    return network.content, dict(network.weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", default="imagenet")
    parser.add_argument("--architectures", type=int, default=40)
    parser.add_argument("--by-tool", type=int, default=5, help="networks that the tool quantises")
    parser.add_argument("--runs", type=int, default=20, help="of each of these")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.disable(
        logging.WARNING
    )  # the tool advises to preprocess what has nothing to preprocess
    setting = parse_setting(f"{given.setting},memory_format=nchw")
    space = get_space(setting.space)
    rows = space.unrank(space.sample(given.architectures, given.seed))
    architectures = [space.architecture(row, setting.network) for row in rows]
    load = os.getloadavg()[0]
    with BACKENDS.get(BACKEND)() as backend, tempfile.TemporaryDirectory() as folder:
        content = {
            **conditions("int8"),
            "onnxruntime": runtime_version,
            "load_before": load,
            "setting": given.setting,
            **measured(backend, architectures, setting),
            "quantized": [
                quantized(architecture, setting, given.runs, Path(folder))
                for architecture in architectures[: given.by_tool]
            ],
        }
    json.dump(content, sys.stdout, indent=1, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
