"""``latkit spaces``"""

from __future__ import annotations

import click

from latkit.cli.output import json_option, print_json, print_table


@click.command(name="spaces")
@json_option
def command(as_json: bool) -> None:
    """List the search spaces, how large they are, and their settings.

    The first setting is used where none is named; latkit profile --setting takes any of them.
    """
    from latkit.api import spaces

    found = spaces()
    if as_json:
        print_json([space.to_dict() for space in found])
        return
    print_table(
        "search spaces",
        ["space", "architectures", "operations", "settings", "note"],
        [
            [s.name, f"{s.size:,}" if s.size is not None else "–", ", ".join(s.operations),
             ", ".join(s.settings), s.broken or ""]
            for s in found
        ],
    )  # fmt: skip
