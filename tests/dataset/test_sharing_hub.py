"""``hf://`` against a server with the few endpoints that huggingface_hub's file system uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from latkit.dataset.file_list import FILE_LIST, is_file_of_dataset
from latkit.dataset.readme import README
from latkit.registry import Registry
from tests.support.hub import REPOSITORY, hub_server
from tests.support.processes import run_latkit
from tests.support.synthetic import made_dataset, made_lpm

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (latkit[hub])")
URL = f"hf://datasets/{REPOSITORY}"


def test_a_dataset_and_lpms(tmp_path: Path) -> None:
    dataset = made_dataset(tmp_path / "d", 40)
    made_dataset(tmp_path / "e", 41)
    trained = made_lpm(tmp_path / "made")
    Registry(str(tmp_path / "r")).publish(trained.lpm, trained.card)
    with hub_server() as (address, hub):
        # The package reads them when it is imported: in processes of their own.
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_TOKEN": "hf_nobody",
                       "HF_HOME": str(tmp_path / "home")}  # fmt: skip

        def run(*arguments: object, code: int = 0) -> str:
            done = run_latkit(*arguments, cwd=tmp_path, environment=environment)
            assert done.returncode == code, done.stderr
            assert "Traceback" not in done.stderr
            return done.stderr

        run("dataset", "push", "d", URL)
        assert [name for names in hub.commits for name in names][-1] == FILE_LIST
        assert {README, FILE_LIST} < set(hub.files)
        assert all(
            hub.files[path.name] == path.read_bytes()
            for path in dataset.path.iterdir()
            if is_file_of_dataset(path.name)
        )
        commits = len(hub.commits)
        run("dataset", "push", "d", URL)
        run("dataset", "push", "e", URL, code=1)
        assert len(hub.commits) == commits
        run("dataset", "pull", URL, "out")
        for path in filter(lambda path: is_file_of_dataset(path.name), dataset.path.iterdir()):
            assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
        run("dataset", "push", "e", f"{URL}-that-is-not-there", code=1)

        run("registry", "push", f"{URL}/lpms", "--registry", "r")
        run("registry", "pull", f"{URL}/lpms", "--registry", "q")
        (entry,) = Registry(str(tmp_path / "q")).entries()
        assert Registry(str(tmp_path / "q")).load(entry)[1] == trained.card
