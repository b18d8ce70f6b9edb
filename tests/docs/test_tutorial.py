"""The tutorial's commands, taken from its own text and run in its order."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from latkit.cli.dataset import UNFIT_EXIT_CODE
from latkit.profiling import protocol
from tests.support.commands import RunLatkit

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


def test_the_tutorial(latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever else this machine does: rows that it disturbed would train nothing.
    monkeypatch.setattr(protocol, "disturbances", lambda *arguments: ())
    blocks = re.findall(r"```(bash|python)\n(.*?)```", TUTORIAL.read_text("utf-8"), re.DOTALL)
    commands = []
    printed = io.StringIO()
    for language, code in blocks:
        if language == "python":
            with contextlib.redirect_stdout(printed):
                exec(compile(code, TUTORIAL.name, "exec"), {})
            continue
        for line in code.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "latkit"
            done = latkit(*arguments)
            # Whether a dataset is fit depends on how busy this machine is.
            fine = (0, UNFIT_EXIT_CODE) if arguments[:2] == ["dataset", "check"] else (0,)
            assert done.returncode in fine, f"{line}\n{done.stderr}"
            commands.append(arguments[0])
    assert commands == [
        "doctor", "profile", "dataset", "train-lpm", "lpms", "predict", "search", "draw", "report",
        "export",
    ]  # fmt: skip
    # What the page names.
    for name in ("measured/dataset.json", "found/result.json", "found.svg", "report.html"):
        assert Path(name).is_file()
    assert Path("found.onnx").stat().st_size > 0
    names = [line.split()[0] for line in printed.getvalue().splitlines()]
    assert names == ["darts_v2", "gdas"]
