"""``latkit backends``"""

from __future__ import annotations

import click

from latkit.cli.output import json_option, note, print_json, print_table


@click.group(name="backends")
def command() -> None:
    """List the backends and whether they work here."""


@command.command(name="list")
@json_option
def list_backends(as_json: bool) -> None:
    """Every backend: ok, missing or unusable, the reason, and the fix."""
    from latkit.backends import probe_backends

    probes = probe_backends()
    if as_json:
        print_json({name: probe.to_dict() for name, probe in probes.items()})
        return
    print_table(
        "backends",
        ["backend", "status", "reason", "fix"],
        [[name, p.status, p.reason, p.fix] for name, p in probes.items()],
    )
    note("next: latkit profile --backend NAME")
