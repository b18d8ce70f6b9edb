"""``latkit draw``"""

from __future__ import annotations

from typing import Any

import click

from latkit.cli.output import UserPath, json_option, note, print_json


@click.command(name="draw")
@click.argument("architecture")
@click.option("--out", type=UserPath(), required=True, help="Picture: *.svg, *.png or *.pdf.")
@click.option("--device", help="LPM that weighs the operations: p100, p100@3, pi5+energy_mj, ...")
@click.option("--space", help="Search space [default: the first one that it is of].")
@json_option
def command(as_json: bool, **fields: Any) -> None:
    """Draw an architecture, of DARTS both cells.

    ARCHITECTURE is what latkit predict takes: a name of the zoo, a text, an identifier, or a file
    with one. Operations have the same colours in every drawing; with --device the lines are as wide
    as the share of the predicted latency that their operations take.

    \b
    Examples:
      latkit draw darts_v2 --out cells.svg
      latkit draw searches/p100/result.json --device p100 --out found.png
      latkit draw --space nasbench201 6111 --out cell.pdf
    """
    from latkit.reports.draw import DrawRequest, draw

    result = draw(DrawRequest(**fields))
    if as_json:
        print_json(result.to_dict())
    else:
        note(f"written: {result.file}\nnext: latkit report FOLDER, which draws what searches found")
