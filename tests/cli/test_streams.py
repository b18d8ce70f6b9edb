"""Streams that lack signs, that are full, closed or narrow: nothing is done twice or lost."""

from __future__ import annotations

import fcntl
import io
import json
import os
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from latkit.cli.main import main
from latkit.cli.output import note, print_table, warn
from latkit.cli.progress import ProgressLine
from latkit.registry import Registry
from tests.support.commands import RunLatkit
from tests.support.synthetic import made_dataset

Run = Callable[..., int]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command line with the streams that a test has set."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["latkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


def stream(encoding: str, monkeypatch: pytest.MonkeyPatch, name: str = "stdout") -> io.BytesIO:
    content = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(content, encoding=encoding))
    return content


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
    def test_what_is_published_is_printed(
        self, in_this_process: Run, monkeypatch: pytest.MonkeyPatch, encoding: str
    ) -> None:
        made_dataset(Path("d"), 60)
        out = stream(encoding, monkeypatch)
        err = stream(encoding, monkeypatch, "stderr")
        assert in_this_process("train-lpm", "d") == 0
        assert in_this_process("predict", "--device", "formula", "darts_v2") == 0
        assert in_this_process("--help") == 0
        assert [entry.version for entry in Registry().entries()] == [1]
        for content in (out, err):
            text = content.getvalue().decode(encoding)
            assert "\\u" not in text
        table = out.getvalue().decode(encoding).splitlines()
        assert any("MAPE" in line for line in table)
        # Columns stay columns.
        rows = [line for line in table if line.startswith("|")]
        assert len({tuple(i for i, c in enumerate(row) if c in "|+") for row in rows[:9]}) == 1

    def test_json_is_json_in_any_encoding(
        self, in_this_process: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made_dataset(Path("μ-日"), 60)
        out = stream("ascii", monkeypatch)
        assert in_this_process("dataset", "list", ".", "--json") == 0
        (found,) = json.loads(out.getvalue().decode("ascii"))["datasets"]
        assert found["dataset"] == "μ-日"

    def test_a_name_that_is_no_text(
        self, in_this_process: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = os.fsdecode(b"caf\xe9")
        made_dataset(Path(name), 60)
        out = stream("utf-8", monkeypatch)
        assert in_this_process("dataset", "list", ".", "--json") == 0
        assert json.loads(out.getvalue())["datasets"][0]["dataset"] == name
        assert in_this_process("dataset", "show", name) == 0
        assert b"\\udce9" in out.getvalue()

    def test_the_c_locale(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "d", 60)
        environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = subprocess.run(
            [sys.executable, "-m", "latkit", "train-lpm", "d"],
            cwd=tmp_path, env=environment, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        assert b"MAPE" in done.stdout
        assert done.stdout.isascii()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
class TestFull:
    def test_standard_output(
        self,
        in_this_process: Run,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """The LPM is published once, its name is told, and the failure is one line."""
        made_dataset(Path("d"), 60)
        for arguments in (("train-lpm", "d"), ("lpms", "list", "--json"), ("--help",)):
            with open("/dev/full", "w") as full:
                monkeypatch.setattr(sys, "stdout", full)
                assert in_this_process(*arguments) == 1
            error = capfd.readouterr().err
            assert "Traceback" not in error
            assert error.splitlines()[-1].startswith("latkit: Cannot write")
            if arguments[0] == "train-lpm":
                (entry,) = Registry().entries()
                assert f"published: {Registry().location(entry)}" in error

    def test_standard_error_stops_nothing(
        self,
        in_this_process: Run,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        made_dataset(Path("d"), 60)
        for arguments, code in ((("train-lpm", "d", "--json"), 0), (("nothing",), 2)):
            with open("/dev/full", "w") as full:
                monkeypatch.setattr(sys, "stderr", full)
                assert in_this_process(*arguments) == code
            if code == 0:
                assert json.loads(capfd.readouterr().out)["reference"].endswith("@1")

    def test_the_end_of_the_process(self, tmp_path: Path) -> None:
        """Python has nothing left to flush, or its exit code would be 120."""
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "latkit", "--help"],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "latkit", "--help"],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    """No file that is opened later gets the number of one, and what is printed into it."""
    made_dataset(tmp_path / "d", 60)
    command = f'"{sys.executable}" -m latkit dataset export d x.csv {closed}'
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert len(lines) == 61
    assert lines[0].startswith('"arch_id"')


class Terminal:
    """A terminal of some columns, whose output is read."""

    def __init__(self, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._other, here = os.openpty()
        fcntl.ioctl(here, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(here, "w", encoding="utf-8")

    def attach(self) -> None:
        """In the test itself: before it, pytest sets the streams again."""
        for name in ("stdout", "stderr"):
            self._monkeypatch.setattr(sys, name, self.stream)

    def text(self) -> str:
        """What was written; the end is marked, because it may come in pieces."""
        self.stream.write("\x03")
        self.stream.flush()
        content = b""
        while not content.endswith(b"\x03"):
            content += os.read(self._other, 65536)
        return content[:-1].decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self._other)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for variable in ("NO_COLOR", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(40, monkeypatch)
    yield terminal
    monkeypatch.undo()
    terminal.close()


class TestTerminal:
    def test_a_table_that_does_not_fit(self, narrow: Terminal) -> None:
        narrow.attach()
        names = [f"column{i}" for i in range(10)]
        print_table("wide", names, [[f"cell-{i}-of-the-row" for i in range(10)]])
        text = narrow.text()
        for i in range(10):
            assert f"column{i}: cell-{i}-of-the-row" in text
        assert max(map(len, text.splitlines())) <= 40

    def test_a_table_that_fits(self, narrow: Terminal) -> None:
        narrow.attach()
        print_table("t", ["a", "b"], [["1", "2"]])
        text = narrow.text()
        assert "│" in text
        assert "\x1b[1m" in text

    @pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
    def test_plain_letters(
        self, narrow: Terminal, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
    ) -> None:
        narrow.attach()
        monkeypatch.setenv(variable, value)
        print_table("t", ["a", "b"], [["1", "2"]])
        warn("careful")
        note("so")
        assert "\x1b" not in narrow.text()

    def test_colours(self, narrow: Terminal) -> None:
        narrow.attach()
        warn("careful")
        assert "\x1b[33mwarning: careful" in narrow.text()

    def test_a_progress_line_stays_one_line(self, narrow: Terminal) -> None:
        narrow.attach()
        line = ProgressLine("visits", 100)
        line.update(100, "last 12.34 ms, retest sd 1.23 %, 3 disturbed")
        line.update(100, "x")
        first, second = narrow.text().removeprefix("\r").split("\r")
        assert len(first) == 39
        assert len(second) == 39
        line.close()

    def test_a_terminal_that_cannot_go_back(
        self, narrow: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        narrow.attach()
        monkeypatch.setenv("TERM", "dumb")
        line = ProgressLine("visits", 2)
        line.update(2)
        line.close()
        text = narrow.text()
        assert text.count("\n") == 1
        assert not text.startswith("\r")

    def test_a_command(self, narrow: Terminal, in_this_process: Run) -> None:
        narrow.attach()
        assert in_this_process("lpms", "list") == 0
        text = narrow.text()
        assert "device: p100" in text
        assert "MAPE %: 5.31" in text


def test_publishing_is_told_before_the_table(latkit: RunLatkit) -> None:
    made_dataset(Path("d"), 60)
    done = latkit("train-lpm", "d", "--json")
    assert json.loads(done.stdout)["location"] in done.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("latkit pro", ["profile"]),
        ("latkit profile --prot", ["--protocol"]),
        ("latkit profile --protocol p", ["precise", "paper"]),
        ("latkit dataset me", ["merge"]),
        ("latkit profil --p", []),
    ],
)
def test_a_shell_completes(
    latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch, words: str, completed: list[str]
) -> None:
    monkeypatch.setenv("_LATKIT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    done = latkit()
    assert (done.stdout.split(), done.stderr) == ([f"plain,{word}" for word in completed], "")
