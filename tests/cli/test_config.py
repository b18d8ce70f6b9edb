"""``--config``: options from a file, as the command line would give them."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from latkit.cli.main import cli
from tests.support.commands import MICRO_TEXT, RunLatkit, check

FILE = f"""
[profile]
backend = "torch-cpu"
setting = "{MICRO_TEXT}"
n = 2
seed = 5
out = "d"
json = true

[retarget]
max-ms = [5, 20.5]

[train-lpm]
publish = false

[dataset.merge]
out = "m"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(FILE)
    return path


def test_the_command_line_counts_more(latkit: RunLatkit, file: Path) -> None:
    done = latkit("profile", "--config", file, "--n", 3)
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["architectures"] == 3
    assert latkit("dataset", "show", "d", "--json").returncode == 0


def parsed(file: Path, *names: str, arguments: tuple[str, ...] = ()) -> dict[str, object]:
    """What a command's function would get."""
    command: click.Command = cli
    context = click.Context(cli)
    for name in names:
        assert isinstance(command, click.Group)
        found = command.get_command(context, name)
        assert found is not None
        command = found
        context = click.Context(command, parent=context, info_name=name)
    with context:
        command.parse_args(context, ["--config", str(file), *arguments])
    return context.params


def test_lists_switches_and_commands_of_a_group(file: Path) -> None:
    assert parsed(file, "retarget", arguments=("run", "--device", "x"))["max_ms"] == (5.0, 20.5)
    assert parsed(file, "train-lpm")["publish"] is False
    merged = parsed(file, "dataset", "merge", arguments=("a", "b"))
    assert merged["out"] == Path("m")
    assert parsed(file, "draw", arguments=("darts_v2", "--out", "c.svg"))["out"] == Path("c.svg")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[profile]\nsed = 3", ("sed", "did you mean seed")),
        ("[profil]\nseed = 3", ("profil", "did you mean profile")),
        ("profile = 3", ("no table",)),
        ("[profile]\nenergy = 1", ("energy", "true or false")),
        ("[profile]\nn = true", ("n of [profile]", "a text or a number")),
        ("[profile]\nn = [1, 2]", ("n of [profile]", "one value")),
        ("[profile]\nseed = 1979-05-27", ("seed of [profile]",)),
        ("[profile]\nn = 'many'", ("--n",)),
        ("[profile\n", ("not TOML", "line 1")),
        (b"\xff", ("not TOML",)),
    ],
)
def test_what_is_wrong_is_one_line(
    latkit: RunLatkit, tmp_path: Path, content: str | bytes, says: tuple[str, ...]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    check(latkit, "profile", "--config", path, says=says)


def test_no_file(latkit: RunLatkit) -> None:
    check(latkit, "profile", "--config", "no.toml", says=("no.toml",), code=1)


def test_a_flag_that_does_not_fit_is_refused_from_a_file_too(
    latkit: RunLatkit, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    path = tmp_path / "run.toml"
    path.write_text("[dataset.import]\nunit = 'ms'\nout = 'd'")
    check(latkit, "dataset", "import", "results", "--config", path, says=("--unit",))
