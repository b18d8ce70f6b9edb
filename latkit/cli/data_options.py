"""The options that say which images a command trains on, and how they are read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def data_options(default: str) -> Callable[[F], F]:
    """The options; the command's function gets ``data`` and ``data_options``.

    Args:
        default: of ``--data``.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def with_options(
            *arguments: Any,
            image_column: str | None,
            label_column: str | None,
            resolution: int | None,
            no_flip: bool,
            **fields: Any,
        ) -> Any:
            from latkit.search.image_source import DataOptions

            options = DataOptions(resolution, not no_flip, image_column, label_column)
            return function(*arguments, data_options=options, **fields)

        decorated: Any = with_options
        for option in reversed(_options(default)):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def _options(default: str) -> list[Callable[[Any], Any]]:
    return [
        click.option(
            "--data",
            default=default,
            show_default=True,
            help="digits (8x8, needs no network), cifar10 (downloads), a folder with "
            "train*.parquet in the Hugging Face layout, a Parquet file, or a folder with one "
            "folder a class.",
        ),
        click.option("--image-column", help="Of Parquet files: encoded images [img or image]."),
        click.option("--label-column", help="Of Parquet files [label, labels or fine_label]."),
        click.option(
            "--resolution",
            type=int,
            help="Scale images to this many pixels a side, a multiple of 4 [32; digits: 8; of "
            "latkit train --preset imagenet: 224].",
        ),
        click.option(
            "--no-flip",
            is_flag=True,
            help="Do not mirror half of the images at random: for digits, letters and the like.",
        ),
    ]
