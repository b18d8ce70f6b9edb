"""``latkit measure``"""

from __future__ import annotations

from typing import Any

import click

from latkit.cli.output import SEED, Cores, UserPath, json_option, note, print_json, show
from latkit.cli.progress import Terminal
from latkit.core.errors import Interrupted

COUNT = click.IntRange(min=1)


# fmt: off
@click.command(name="measure")
@click.argument("what", nargs=-1)
@click.option("--table", type=click.Choice(["cifar", "imagenet"]),
              help="Networks of the paper's Table 2 or 5, with what it prints of them.")
@click.option("--input", multiple=True, metavar="SHAPE",
              help="Shape of a model's input, 1x3x224x224, or NAME=1x128 of one of several.")
@click.option("--backend", help="Runtime [default: torch-cuda where a GPU is, else torch-cpu].")
@click.option("--provider-library", type=UserPath(),
              help="The shared library of --backend onnxruntime-ep:NAME [default: the package's].")
@click.option("--device", help="Your short name for this hardware [default: made from its own].")
@click.option("--setting", help="How networks are run, and the network around genotypes "
                                "[default: the table's, else imagenet].")
@click.option("--batch", multiple=True, metavar="N,...", help="Samples a run, each a row: 1,2,4.")
@click.option("--pause-ms", multiple=True, metavar="MS,...", default=("0",), show_default=True,
              help="Sleep before every run, each a row: 0,50.")
@click.option("--protocol", type=click.Choice(["fast", "standard", "precise", "paper"]),
              default="standard", show_default=True, help="How one measurement is made.")
@click.option("--measurements", type=COUNT, default=5, show_default=True,
              help="Undisturbed measurements of each row, from which its error is known.")
@click.option("--runs", type=COUNT, default=100, show_default=True,
              help="Consecutive runs for p50, p90, p99 and the slowest.")
@click.option("--energy", is_flag=True, help="Measure energy too, where there is a meter.")
@click.option("--per-layer", is_flag=True, help="What each operator takes, by the runtime.")
@click.option("--clock", type=click.Choice(["auto", "wall", "cpu", "event"]),
              help="Which time the latency is [default: the protocol's].")
@click.option("--threads", type=COUNT, default=1, show_default=True, help="CPU threads of a run.")
@click.option("--cores", type=Cores(), default=(), help="Keep to these CPU cores, e.g. 0,2-3.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of weights and inputs.")
@click.option("--out", type=UserPath(), help="Folder [default: measurements/DEVICE/BACKEND].")
@json_option
def command(as_json: bool, **fields: Any) -> int:
    """Measure the latency of anything: genotypes, models, files.

    WHAT is torchvision:NAME?key=value (random weights), FILE.onnx, package.module:callable (returns
    an nn.Module; the current folder is searched too), zoo:NAME, or what every command takes as an
    architecture (a Genotype(...), a cell's text, a search's result.json).

    \b
    Examples:
      latkit measure zoo:darts_v2 torchvision:resnet18 --backend onnxruntime-cpu
      latkit measure model.onnx --batch 1,2,4 --pause-ms 0,50 --backend openvino-cpu
      latkit measure 'torchvision:mobilenet_v2?width_mult=1.4' --per-layer
      latkit measure my_models:make_small --input 1x3x96x96
      latkit measure --table imagenet found/result.json

    Each is measured in alternation with one anchor network. The results are a dataset and a
    measurement.json; the same command goes on after an interruption. What cannot be measured costs
    one line and the exit code, and leaves the others' results.
    """
    from latkit.reports.measurement import measurement_parts
    from latkit.tasks.measure_request import MeasureRequest
    from latkit.tasks.measurement import run_measure

    try:
        result = run_measure(MeasureRequest(**fields), Terminal())
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; every finished measurement is kept", "run the same command to go on"
        ) from None
    if as_json:
        print_json(result.to_dict())
    else:
        show(measurement_parts(result))
    note(f"next: latkit dataset check {result.out}")
    return result.failures[0].error.exit_code if result.failures else 0
# fmt: on
