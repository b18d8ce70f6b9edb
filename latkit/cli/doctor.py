"""``latkit doctor``"""

from __future__ import annotations

import click

from latkit.cli.output import json_option, note, print_json, print_table


@click.command(name="doctor")
@json_option
def command(as_json: bool) -> None:
    """Show what works on this machine, what does not, the reason, and the fix.

    Exits with 1 if something that latkit cannot do without is broken.
    """
    from latkit.tasks.doctor import doctor

    diagnosis = doctor()
    if as_json:
        print_json(diagnosis.to_dict())
    else:
        rows = [(row.part, row.status, row.what, row.fix) for row in diagnosis.rows]
        print_table("latkit doctor", ["part", "status", "what", "fix"], rows)
    if diagnosis.broken:
        note("something latkit needs is broken; apply the fixes above, from the top")
        raise click.exceptions.Exit(1)
    note("next: latkit demo")
