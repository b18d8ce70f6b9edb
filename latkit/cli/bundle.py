"""``latkit bundle``"""

from __future__ import annotations

from typing import Any

import click

from latkit.cli.output import SEED, Percent, UserPath, json_option, note, print_json, print_table
from latkit.cli.progress import Terminal


# fmt: off
@click.command(name="bundle")
@click.option("--to", type=click.Choice(["onnx", "ncnn", "pte"]), default="onnx", show_default=True,
              help="For ONNX Runtime, ncnn, or ExecuTorch (which needs PyTorch beside it).")
@click.option("--n", type=click.IntRange(min=1), default=300, show_default=True,
              help="Number of architectures.")
@click.option("--space", default="darts", show_default=True, help="Search space.")
@click.option("--setting", help="As of latkit profile.")
@click.option("--protocol", type=click.Choice(["fast", "standard", "precise", "paper"]),
              default="standard", show_default=True, help="As of latkit profile.")
@click.option("--visits", "replicates", type=click.IntRange(1, 16), default=1, show_default=True,
              help="As of latkit profile.")
@click.option("--target-error", type=Percent(), help="As of latkit profile.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True,
              help="CPU threads of a run on the board.")
@click.option("--seed", type=SEED, default=0, show_default=True,
              help="Names the list of architectures; latkit profile measures the same.")
@click.option("--out", type=UserPath(), required=True, help="New file, e.g. b.pyz.")
@json_option
def command(as_json: bool, **fields: Any) -> None:
    """Make a file that profiles a board without PyTorch.

    It has the architectures' graphs without weights and all that measures them. The board needs
    Python 3.8 or newer with NumPy and the runtime; the same command goes on there after a crash.

    \b
    Example:
      latkit bundle --n 300 --setting imagenet --out b.pyz
      python3 b.pyz --out results                      (on the board)
      latkit dataset import results --device my-board --out datasets/my-board
    """
    from latkit.tasks.bundle import BundleRequest, make_bundle

    result = make_bundle(BundleRequest(**fields), Terminal()).to_dict()
    if as_json:
        print_json(result)
        return
    shown = ("file", "space", "backend", "architectures", "bytes", "largest_network_bytes")
    print_table("bundle", ["what", "value"], [[name, str(result[name])] for name in shown])
    note(f"next: copy {result['file']} to the board and there: pip install "
         f"{' '.join(result['packages'])}; python3 {fields['out'].name} --out results")
# fmt: on
