"""A profile that is killed, three times, and goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from latkit.dataset import LatencyDataset
from latkit.dataset.flags import is_panel
from latkit.dataset.format import (
    part_paths,
    read_journal,
    read_manifest,
    read_part,
)
from tests.profiling.test_loop import keys, planned
from tests.support.commands import MICRO_TEXT
from tests.support.processes import start_latkit


def test_kill_9_loses_no_finished_row_and_measures_none_twice(tmp_path: Path) -> None:
    """Three kills at different moments; then the same command completes the undisturbed list."""
    out = tmp_path / "d"
    n = 90
    arguments = (
        "profile", "--backend", "torch-cpu", "--device", "this-cpu", "--setting", MICRO_TEXT,
        "--n", n, "--out", out,
    )  # fmt: skip
    kept: list[dict[str, object]] = []
    for more in (3, 12, 20):
        process = start_latkit(*arguments, cwd=tmp_path)
        deadline = time.monotonic() + 120
        while len(rows_on_disk(out)) < len(kept) + more:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        after = rows_on_disk(out)
        assert after[: len(kept)] == kept
        kept = after
    assert 35 <= len(kept) < len(planned(n))
    listed_before = sum(not is_panel(row["flags"]) for row in kept)  # type: ignore[arg-type]
    process = start_latkit(*arguments, cwd=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"going on: {listed_before} of " in err
    whole = LatencyDataset.open(out)
    assert keys(whole, len(planned(n))) == planned(n)
    finished = [(row["arch_id"], row["samples_ms"]) for row in whole.table.to_pylist()]
    assert finished[: len(kept)] == [(row["arch_id"], row["samples_ms"]) for row in kept]


def rows_on_disk(out: Path) -> list[dict[str, object]]:
    """Rows that a dead process has left, read while none or one is writing."""
    if not (out / "dataset.json").exists():
        return []
    manifest = read_manifest(out)
    rows = [row for part in part_paths(out) for row in read_part(part, manifest).to_pylist()]
    seen = {(row["arch_id"], row["visit"]) for row in rows}
    rows += [r for r in read_journal(out, manifest) if (r["arch_id"], r["visit"]) not in seen]
    # latency_ms is recomputed when a session ends; what was measured is not.
    for row in rows:
        del row["latency_ms"], row["latency_std_ms"]
    return rows
