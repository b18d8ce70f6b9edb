"""Networks in int8 against the same in fp32, with ONNX Runtime on the CPU.

    python benchmarks/int8.py --out work > benchmarks/results/DATE-int8.json

The same architectures are profiled by ``latkit profile`` in both precisions, whose answers are kept
in ``--out``: an interrupted run goes on. Told of each precision: the latencies, the standard
deviation of one measurement from two of each, and the CPU time of getting a network ready and
releasing it. Told of both together: the Spearman correlation, and the ratios of int8 to fp32.

A few architectures are quantised by ``onnxruntime.quantization.quantize_static`` too, with
activations in uint8, as latkit has them, and in int8: CPU time of quantising, runs of all sessions
in alternation (the mean of the faster half, by CPU time), and the operators of the graphs once ONNX
Runtime has optimised them. Nothing else should run meanwhile. Prints JSON, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
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

from benchmarks.commands import Commands
from benchmarks.conditions import conditions
from benchmarks.runtimes import ready_ms
from latkit.backends.onnxruntime_int8 import int8_network
from latkit.backends.onnxruntime_session import CPU, session_options, start_session
from latkit.dataset import LatencyDataset
from latkit.networks.onnx_model import INPUT, OnnxNetwork
from latkit.spaces import Architecture, Setting, get_space, parse_setting
from latkit.spaces.build import random_input, random_network, random_onnx

BACKEND = "onnxruntime-cpu"
PRECISIONS = ("fp32", "int8")
# A machine that others disturb leaves some architectures for the next time.
PROFILES = 3


class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
    """One batch for the tool."""

    def __init__(self, images: Any) -> None:
        self._images = iter([{INPUT: images}])

    def get_next(self) -> Any:
        return next(self._images, None)


def profiled(commands: Commands, precision: str, given: argparse.Namespace) -> dict[str, Any]:
    """A dataset in one precision: what ``profile`` says of it."""
    folder = commands.folder / precision
    kept = folder.with_suffix(".json")
    if not kept.exists():
        for _ in range(PROFILES):
            answer = commands.latkit(
                "profile", "--backend", BACKEND, "--device", "here", "--visits", "2",
                "--setting", f"{given.setting},precision={precision}", "--out", str(folder),
                "--n", str(given.architectures), "--seed", str(given.seed),
            )  # fmt: skip
        kept.write_text(json.dumps(answer))
    return dict(json.loads(kept.read_text()))


def ratios(commands: Commands) -> dict[str, Any]:
    """Latencies in int8 over those in fp32, an architecture each, in order."""
    latencies = []
    for precision in PRECISIONS:
        usable = LatencyDataset.open(commands.folder / precision).usable()
        latencies.append(
            dict(zip(usable["arch_id"].to_pylist(), usable["latency_ms"].to_pylist(), strict=True))
        )
    fp32, int8 = latencies
    found = sorted(int8[arch_id] / fp32[arch_id] for arch_id in fp32.keys() & int8.keys())
    return {"least": found[0], "median": statistics.median(found), "largest": found[-1]}


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
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--setting", default="imagenet")
    parser.add_argument("--architectures", type=int, default=40)
    parser.add_argument("--ready", type=int, default=12, help="networks that are got ready")
    parser.add_argument("--by-tool", type=int, default=5, help="networks that the tool quantises")
    parser.add_argument("--runs", type=int, default=20, help="of each of these")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.disable(
        logging.WARNING
    )  # the tool advises to preprocess what has nothing to preprocess
    commands = Commands(given.out, {"OMP_NUM_THREADS": "1"})
    setting = parse_setting(f"{given.setting},memory_format=nchw")
    precisions = {}
    for precision in PRECISIONS:
        dataset = profiled(commands, precision, given)
        in_precision = setting.replace(precision=precision)
        precisions[precision] = {
            **{key: dataset[key] for key in ("architectures", "latency_ms", "retest_sd_percent")},
            "ready_ms": ready_ms(BACKEND, in_precision, given.ready, given.seed),
        }
    compared = commands.latkit(
        "dataset", "compare", *(str(given.out / precision) for precision in PRECISIONS)
    )
    names = ("architectures", "spearman", "deviation_percent", "expected_deviation_percent")
    space = get_space(setting.space)
    rows = space.unrank(space.sample(given.by_tool, given.seed))
    with tempfile.TemporaryDirectory() as folder:
        few = [
            quantized(space.architecture(row, setting.network), setting, given.runs, Path(folder))
            for row in rows
        ]
    content = {
        **conditions("int8"),
        "onnxruntime": runtime_version,
        "setting": given.setting,
        "precisions": precisions,
        "pairs": {**{name: compared[name] for name in names}, "ratio": ratios(commands)},
        "quantized": few,
    }
    json.dump(content, sys.stdout, indent=1, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
