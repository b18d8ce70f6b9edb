"""``latkit registry``"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import json_option, note, print_json, print_table
from latkit.cli.progress import Terminal

if TYPE_CHECKING:
    from latkit.registry.sharing import CopyResult


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    here = click.option("--registry", help="This side's URL or folder [default: $LATKIT_REGISTRY].")
    return click.argument("url")(here(json_option(function)))


def _chosen(function: Callable[..., Any]) -> Callable[..., Any]:
    space = click.option("--space", default="darts", show_default=True, help="Of the LPMs named.")
    return _options(click.argument("references", nargs=-1, metavar="[LPM]...")(space(function)))


@click.group(name="registry")
def command() -> None:
    """Share LPMs between registries on any fsspec URLs (folders, s3://, gs://, memory://).

    Every file is verified by its SHA-256; what is there already is not copied again, and a
    command that was killed goes on when it is repeated. Two publishers never get one number.
    """


@command.command(name="push")
@_chosen
@click.pass_context
def push(context: click.Context, /, as_json: bool, **fields: Any) -> None:
    """Copy LPMs to the registry at URL: those named, e.g. p100@3, or every version.

    A version keeps its number where nobody has that, else it gets the one after the last.
    The exit code is 1 if a version was refused.
    """
    from latkit.registry.sharing import push_lpms

    _print(context, as_json, push_lpms(**fields, listener=Terminal()))


@command.command(name="pull")
@_chosen
@click.pass_context
def pull(context: click.Context, /, as_json: bool, **fields: Any) -> None:
    """Copy LPMs from the registry at URL: those named, e.g. p100@3, or every version.

    A version that is corrupt, or a symbolic link, is refused, and the others are copied.
    """
    from latkit.registry.sharing import pull_lpms

    _print(context, as_json, pull_lpms(**fields, listener=Terminal()))


@command.command(name="sync")
@_options
@click.pass_context
def sync(context: click.Context, /, as_json: bool, **fields: Any) -> None:
    """Push every version that URL lacks, then pull every one that is only there."""
    from latkit.registry.sharing import sync_lpms

    _print(context, as_json, *sync_lpms(**fields, listener=Terminal()))


def _print(context: click.Context, as_json: bool, *results: CopyResult) -> None:
    if as_json:
        printed = [result.to_dict() for result in results]
        print_json(printed[0] if len(printed) == 1 else printed)
    for result in () if as_json else results:
        outcome = {True: "copied", False: "there already"}
        print_table(
            f"{result.source} to {result.destination}",
            ["space", "LPM", "there", "outcome"],
            [
                [v.space, v.reference, v.copy or "–", outcome[v.is_new] if v.copy else "refused"]
                for v in result.versions
            ],
        )
    if any(result.refused for result in results):
        context.exit(1)
    note("next: latkit lpms list")
