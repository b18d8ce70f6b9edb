"""What ranks sub-networks, judged on a table made by formula."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import front_lpms, ranking
from latkit.search.oneshot.ranking import RANKED_BY
from tests.benchmarks.front_tables import made_table, one_shot_search

TABLE = made_table()


def test_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but MACs are the true accuracy, which is linear in the operations."""
    chosen = {name: ranking.sets()[name] for name in ("loss", "macs", "all, as in the search")}
    assert len(ranking.sets()) == 8 + 1 + len(RANKED_BY) + 1
    monkeypatch.setattr(ranking, "sets", lambda: chosen)
    one_shot_search(tmp_path, front_lpms.some(60, 3), TABLE)
    columns = ranking.run(TABLE, [tmp_path])
    assert list(columns) == list(chosen)
    for column in columns.values():
        (share,), (spearman,) = column["share_by_supernet"], column["spearman"]
        assert share == column["share"] >= column["least_share"] > 0
        assert -1 < column["spearman_of_the_better_half"][0] < 1
        assert spearman < 1
    assert columns["loss"]["spearman"][0] > 0.9
    assert columns["macs"]["spearman"][0] < columns["all, as in the search"]["spearman"][0]
