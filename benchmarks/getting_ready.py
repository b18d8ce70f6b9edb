"""What getting a network ready costs with ONNX Runtime on the CPU, stage by stage.

For each architecture the stages of a ``fast`` measurement are timed once, in CPU time of this
process: the graph and its weights (in int8 with the calibration), the session's options (where the
weights are handed over), the session, the binding of input and output, what the first run takes
beyond the later ones, and releasing it all. Pages are those that the process had to get from the
system meanwhile. Before each architecture garbage is collected, untimed, as in ``profiling.py``.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/getting_ready.py
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import time

import onnxruntime

from latkit.backends import BACKENDS
from latkit.backends.onnxruntime_int8 import int8_network
from latkit.backends.onnxruntime_session import CPU, session_options, start_session
from latkit.networks.onnx_model import INPUT, OUTPUT
from latkit.spaces import Architecture, Setting, get_space, parse_setting
from latkit.spaces.build import random_input, random_onnx

RUNS = 4
WARM_UP = 5  # architectures that do not count


def stages_ms(architecture: Architecture, setting: Setting) -> dict[str, float]:
    """CPU time of each stage in milliseconds."""
    spent: dict[str, float] = {}
    started = time.process_time()

    def lap(stage: str) -> None:
        nonlocal started
        spent[stage] = (time.process_time() - started) * 1e3
        started = time.process_time()

    if setting.precision == "int8":
        network = int8_network(architecture, setting, 0)
    else:
        network = random_onnx(architecture, setting, 0, merged=True)
    lap("graph")
    options = session_options(network.weights, threads=1, profile=None)
    lap("options")
    session = start_session(network.content, options, CPU, {})
    lap("session")
    binding = session.io_binding()
    images = random_input(setting, 0).numpy()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(images, "cpu", 0)
    binding.bind_ortvalue_input(INPUT, value)
    binding.bind_output(OUTPUT, "cpu")
    lap("binding")
    for run in range(RUNS):
        session.run_with_iobinding(binding)
        lap(f"run {run}")
    runs = [spent.pop(f"run {run}") for run in range(RUNS)]
    del binding, session, options
    lap("session released")
    del network, value, images
    lap("weights released")
    spent["first run beyond others"] = runs[0] - statistics.median(runs[1:])
    return {**spent, "all": sum(spent.values()), "one run": statistics.median(runs[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architectures", type=int, default=40)
    parser.add_argument("--setting", default="imagenet")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    setting = parse_setting(f"{given.setting},memory_format=nchw")
    space = get_space(setting.space)
    rows = space.unrank(space.sample(given.architectures + WARM_UP, given.seed))
    architectures = [space.architecture(row, setting.network) for row in rows]
    counted = []
    with BACKENDS.get("onnxruntime-cpu")():
        for architecture in architectures:
            gc.collect()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            row = stages_ms(architecture, setting)
            pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
            counted.append({**row, "pages": pages})
    print(f"{'stage':24} {'median':>8} {'mean':>8}   CPU ms")
    for stage in counted[0]:
        values = [row[stage] for row in counted[WARM_UP:]]
        print(f"{stage:24} {statistics.median(values):8.2f} {statistics.fmean(values):8.2f}")


if __name__ == "__main__":
    main()
