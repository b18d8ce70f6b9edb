"""``latkit dataset push`` and ``pull``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latkit.cli.output import UserPath, json_option, note, print_json, print_table
from latkit.cli.progress import Terminal

if TYPE_CHECKING:
    from latkit.dataset.sharing import CopiedDataset


@click.command(name="push")
@click.argument("dataset", type=UserPath())
@click.argument("url")
@json_option
def push(dataset: Path, url: str, as_json: bool) -> None:
    """Copy a measured DATASET to URL, any fsspec URL (a folder, s3://, gs://, hf://).

    \b
    latkit dataset push d s3://lab/datasets/my-gpu
    latkit dataset push d hf://datasets/me/my-gpu

    URL is then this dataset's alone, with a README.md for people. A push that was killed goes on
    when it is repeated; what is there already is not copied again, and another dataset there is
    refused.
    """
    from latkit.dataset.sharing import push_dataset

    _print(push_dataset(dataset, url, Terminal()), as_json, f"latkit dataset pull {url} OUT")


@click.command(name="pull")
@click.argument("url")
@click.argument("out", type=UserPath())
@json_option
def pull(url: str, out: Path, as_json: bool) -> None:
    """Copy the dataset that was pushed to URL to the new folder OUT.

    Every file is verified by its SHA-256. OUT is there whole or not at all: files arrive in the
    hidden folder .OUT.pull beside it, from which a pull that was killed goes on when it is
    repeated.
    """
    from latkit.dataset.sharing import pull_dataset

    _print(pull_dataset(url, out, Terminal()), as_json, f"latkit dataset check {out}")


def _print(result: CopiedDataset, as_json: bool, following: str) -> None:
    if as_json:
        print_json(result.to_dict())
        return
    outcome = "copied" if result.is_new else "there already"
    print_table(
        f"{result.source} to {result.destination}",
        ["files", "MB", "outcome"],
        [[str(result.files), f"{result.bytes / 1e6:.2f}", outcome]],
    )
    note(f"next: {following}")
