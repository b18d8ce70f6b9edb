"""What is said of datasets in Python is what the commands print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latkit.core.errors import DatasetError
from latkit.core.events import Listener
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.check import check_dataset, summarize
from latkit.dataset.compare import compare_datasets
from latkit.dataset.listing import list_datasets
from latkit.dataset.tables import ImportRequest, TableColumn, import_table
from tests.support.commands import MICRO_TEXT, RunLatkit
from tests.support.synthetic import MICRO, SPACE, made_dataset

ARCHS = [SPACE.format(SPACE.unrank(i)[0]) for i in SPACE.sample(12, 0).tolist()]


def printed(latkit: RunLatkit, *arguments: object) -> Any:
    done = latkit(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_list_show_and_check(latkit: RunLatkit) -> None:
    dataset = made_dataset(Path("datasets/d"), 12)
    listed = printed(latkit, "dataset", "list")["datasets"]
    assert listed == [one.to_dict() for one in list_datasets()]
    summary = summarize(dataset)
    assert summary.architectures == summary.rows == 12
    assert printed(latkit, "dataset", "show", "datasets/d") == {
        "dataset": "datasets/d", **summary.to_dict(), **dataset.manifest.to_dict(),
    }  # fmt: skip
    check = check_dataset(dataset)
    assert check.summary == summary
    assert printed(latkit, "dataset", "check", "datasets/d") == {
        "dataset": "datasets/d", **check.to_dict(),
    }  # fmt: skip


def test_compare(latkit: RunLatkit) -> None:
    first, second = made_dataset(Path("a"), 12), made_dataset(Path("b"), 12, "b", 2.0)
    comparison = compare_datasets(first, second)
    assert comparison.agreement.architectures == comparison.architectures == 12
    assert comparison.agreement.ratio == pytest.approx(2)
    assert len(comparison.target_differences) == 1
    assert printed(latkit, "dataset", "compare", "a", "b") == {
        "first": "a", "second": "b", **comparison.to_dict(),
    }  # fmt: skip


class TestImport:
    def request(self, out: str, **changes: Any) -> ImportRequest:
        target = Target("darts", "p100", "torch-cuda", MICRO)
        columns = {"latency_ms": TableColumn("took", "ms")}
        return ImportRequest(["t.csv"], target, columns, Path(out), "cell", **changes)

    def write(self, bad: int) -> None:
        lines = [f"{arch},{5 + i}" for i, arch in enumerate(ARCHS)] + ["unknown,1"] * bad
        Path("t.csv").write_text("cell,took\n" + "\n".join(lines) + "\n")

    def test_it_is_what_the_command_prints(self, latkit: RunLatkit) -> None:
        self.write(bad=2)
        result = import_table(self.request("d", skip_bad_rows=True))
        assert [row.place for row in result.bad_rows] == ["line 14", "line 15"]
        assert len(result.describe_bad_rows()) == 2
        assert result.summary.architectures == 12
        assert result.dataset.digest() == LatencyDataset.open("d").digest()
        content = printed(
            latkit, "dataset", "import", "t.csv", "--arch-column", "cell", "--latency-column",
            "took", "--unit", "ms", "--device", "p100", "--backend", "torch-cuda", "--setting",
            MICRO_TEXT, "--out", "e", "--skip-bad-rows",
        )  # fmt: skip
        assert content == {**result.to_dict(), "dataset": "e"}

    def test_bad_rows_are_reported_before_they_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        self.write(bad=30)
        warnings: list[str] = []

        class Recorder(Listener):
            def warn(self, text: str) -> None:
                warnings.append(text)

        with pytest.raises(DatasetError):
            import_table(self.request("d"), Recorder())
        assert len(warnings) == 21  # twenty, and one line of the others
        assert not Path("d").exists()
