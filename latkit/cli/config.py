"""``--config FILE.toml`` of every command: options from a file, under the flags' own names."""

from __future__ import annotations

import difflib
import importlib
import reprlib
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click

from latkit.cli.output import UserPath
from latkit.core.errors import InputError, from_os_error


def add_config(command: click.Command, *names: str) -> None:
    """Give a command the option ``--config``; a group gives it to its commands.

    Args:
        command: to be changed.
        names: of the command, after ``latkit``.
    """
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            add_config(child, *names, name)
    elif not any(parameter.name == "config" for parameter in command.params):
        table = ".".join(names)
        option = click.Option(
            ["--config"], type=UserPath(), is_eager=True, expose_value=False, metavar="FILE.toml",
            callback=partial(_read, names),
            help=f"Take options from the table [{table}] of a file, e.g. seed = 1, under the names "
                 "that they have here; what the command line says counts more.",
        )  # fmt: skip
        command.params.append(option)


def _read(
    names: tuple[str, ...], ctx: click.Context, _: click.Parameter, path: Path | None
) -> None:
    if path is None:
        return
    table = _table(path, names, ctx)
    options = {
        flag.lstrip("-"): parameter
        for parameter in ctx.command.params
        if isinstance(parameter, click.Option) and parameter.name != "config"
        for flag in parameter.opts
        if flag.startswith("--")
    }
    defaults = {}
    for name, value in table.items():
        if name not in options:
            fix = _close(name, options, f"see {ctx.command_path} --help")
            raise _wrong(path, names, name, "is no option of the command", fix)
        option = options[name]
        defaults[str(option.name)] = _text(path, names, name, option, value)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _table(path: Path, names: tuple[str, ...], ctx: click.Context) -> dict[str, Any]:
    """The table of a command; empty if the file has none."""
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was done") from error
    except (ValueError, RecursionError) as error:  # of TOML, or of the text's encoding
        reason = str(error)[:200]
        raise InputError(f"{path} is not TOML: {reason}", "see https://toml.io") from None
    group: Any = ctx.find_root().command
    for place, name in enumerate(names):
        commands = group.list_commands(ctx)
        for other in table:
            if other not in commands:
                where = ".".join((*names[:place], other))
                fix = _close(other, commands, "latkit --help lists the commands")
                raise InputError(f"{path} has {where}, which is no command", fix)
        table = table.get(name, {})
        if not isinstance(table, dict):
            text = ".".join(names[: place + 1])
            raise InputError(f"{text} is no table in {path}", f"write options below [{text}]")
        if place + 1 < len(names):
            group = group.get_command(ctx, name)
    options: dict[str, Any] = table
    return options


def _close(name: str, names: Iterable[str], otherwise: str) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {close[0]}?" if close else otherwise


def _text(
    path: Path, names: tuple[str, ...], name: str, option: click.Option, value: Any
) -> bool | str | list[str]:
    """What a flag would be given; its own type reads it."""
    values = value if isinstance(value, list) else [value]
    if option.is_flag:
        if not isinstance(value, bool):
            raise _wrong(path, names, name, f"is {reprlib.repr(value)}", "use true or false")
        return value
    if any(not isinstance(v, (str, int, float)) or isinstance(v, bool) for v in values):
        raise _wrong(path, names, name, f"is {reprlib.repr(value)}", "use a text or a number")
    if option.multiple or option.nargs != 1:
        return [str(v) for v in values]
    if isinstance(value, list):
        raise _wrong(path, names, name, "is a list", "use one value")
    return str(value)


def _wrong(path: Path, names: tuple[str, ...], name: str, what: str, fix: str) -> InputError:
    return InputError(f"{name} of [{'.'.join(names)}] in {path} {what}", fix)
