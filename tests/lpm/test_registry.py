"""The registry: versions, references, integrity, concurrent publishers."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from pathlib import Path

import fsspec
import numpy as np
import pytest

from latkit.core.errors import InputError, LatkitError, LPMError
from latkit.lpm.store import CARD, WEIGHTS, card_text
from latkit.lpm.training import TrainedLPM
from latkit.registry import Registry
from tests.support.synthetic import SPACE, made_lpm


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedLPM:
    return made_lpm(tmp_path_factory.mktemp("made") / "d")


@pytest.mark.parametrize("url", ["file", "memory://latkit-test-registry"])
def test_what_is_published_is_loaded(tmp_path: Path, trained: TrainedLPM, url: str) -> None:
    registry = Registry(str(tmp_path / "r") if url == "file" else url)
    assert registry.entries() == []
    first = registry.publish(trained.lpm, trained.card)
    second = registry.publish(trained.lpm, trained.card)
    assert (first.version, second.version) == (1, 2)
    assert registry.entries() == [first, second]
    lpm, card = registry.load(first)
    assert card == trained.card
    encodings = SPACE.encode(SPACE.unrank(SPACE.sample(50, 9)))
    assert np.array_equal(lpm.predict(encodings), trained.lpm.predict(encodings))
    if url != "file":
        fsspec.filesystem("memory").rm("latkit-test-registry", recursive=True)


def test_a_path_with_pattern_letters(tmp_path: Path, trained: TrainedLPM) -> None:
    registry = Registry(str(tmp_path / "r[1]*"))
    registry.check_writable()
    entry = registry.publish(trained.lpm, trained.card)
    assert registry.entries() == [entry]


def test_an_unreadable_file_is_named(tmp_path: Path, trained: TrainedLPM) -> None:
    registry = Registry(str(tmp_path / "r"))
    entry = registry.publish(trained.lpm, trained.card)
    path = tmp_path / "r" / entry.folder / WEIGHTS
    path.unlink()
    path.mkdir()
    with pytest.raises(LatkitError, match=f"Cannot read .*{WEIGHTS}"):
        registry.load(entry)


def test_references(tmp_path: Path, trained: TrainedLPM) -> None:
    registry = Registry(str(tmp_path / "r"))
    one, two = (registry.publish(trained.lpm, trained.card) for _ in range(2))
    assert registry.resolve("formula", "darts") == two
    assert registry.resolve("formula@1", "darts") == one
    assert registry.resolve("formula@latest", "darts") == two
    assert registry.resolve("formula/torch-cpu@1", "darts") == one
    assert registry.resolve(two.reference, "darts") == two
    for reference, message in (
        ("other", r"no LPM for device 'other'.*devices: formula.*latkit profile"),
        ("formula@3", r"no LPM 'formula@3'.*formula/torch-cpu/.*@1"),
        ("formula/tensorrt", "no LPM 'formula/tensorrt'"),
        ("formula@x", "not an LPM reference"),
        ("", "not an LPM reference"),
        ("a/b/c/d", "not an LPM reference"),
    ):
        with pytest.raises(InputError, match=message):
            registry.resolve(reference, "darts")
    with pytest.raises(InputError, match=r"space mobile in .*\(only of darts; devices: none yet\)"):
        registry.resolve("formula", "mobile")


def test_an_ambiguous_reference_lists_what_there_is(tmp_path: Path, trained: TrainedLPM) -> None:
    registry = Registry(str(tmp_path / "r"))
    registry.publish(trained.lpm, trained.card)
    target = dataclasses.replace(trained.card.target, backend="torch-cuda")
    registry.publish(trained.lpm, dataclasses.replace(trained.card, target=target))
    with pytest.raises(InputError, match=r"fits 2 targets.*torch-cpu/.*torch-cuda/"):
        registry.resolve("formula", "darts")
    assert registry.resolve("formula/torch-cuda", "darts").backend == "torch-cuda"


@pytest.mark.parametrize("name", [WEIGHTS, CARD])
def test_a_changed_byte_is_noticed(tmp_path: Path, trained: TrainedLPM, name: str) -> None:
    registry = Registry(str(tmp_path / "r"))
    entry = registry.publish(trained.lpm, trained.card)
    path = tmp_path / "r" / entry.folder / name
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in [0, len(content) - 1, *rng.integers(0, len(content), 30).tolist()]:
        changed = bytearray(content)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(changed))
        with pytest.raises(LPMError, match=rf"{name} (is corrupt|does not|has format version)"):
            registry.load(entry)


def test_a_missing_file_is_named(tmp_path: Path, trained: TrainedLPM) -> None:
    registry = Registry(str(tmp_path / "r"))
    entry = registry.publish(trained.lpm, trained.card)
    (tmp_path / "r" / entry.folder / WEIGHTS).unlink()
    with pytest.raises(LPMError, match=rf"{WEIGHTS} is missing"):
        registry.load(entry)
    # Without its card a folder is not a version: a publisher died before the end.
    (tmp_path / "r" / entry.folder / CARD).unlink()
    assert registry.entries() == []
    assert registry.publish(trained.lpm, trained.card).version == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 7}, "format version 7"),
        ({"format": "x"}, "does not describe an LPM"),
        ({"kind": "future"}, "unknown kind 'future'"),
        ({"metrics": None, "target": {}}, "a target has the fields"),
        ({"hyper_parameters": {"space": "fbnet"}}, "does not fit its card"),
    ],
)
def test_a_changed_card(
    tmp_path: Path, trained: TrainedLPM, change: dict[str, object], message: str
) -> None:
    registry = Registry(str(tmp_path / "r"))
    entry = registry.publish(trained.lpm, trained.card)
    path = tmp_path / "r" / entry.folder / CARD
    path.write_text(card_text({**json.loads(path.read_text()), **change}))
    with pytest.raises(LPMError, match=message):
        registry.load(entry)


def test_an_lpm_of_another_space_is_refused(tmp_path: Path, trained: TrainedLPM) -> None:
    registry = Registry(str(tmp_path / "r"))
    entry = registry.publish(trained.lpm, trained.card)
    (tmp_path / "r" / "mobile").mkdir()
    (tmp_path / "r" / "darts" / "formula").rename(tmp_path / "r" / "mobile" / "formula")
    moved = registry.resolve("formula", "mobile")
    assert moved.folder == entry.folder.replace("darts/", "mobile/", 1)
    with pytest.raises(LPMError, match="holds an LPM of the space darts"):
        registry.load(moved)


def _publish_twenty(url: str, trained: TrainedLPM) -> None:
    for _ in range(20):
        Registry(url).publish(trained.lpm, trained.card)


def test_two_publishers_never_overwrite_each_other(tmp_path: Path, trained: TrainedLPM) -> None:
    url = str(tmp_path / "r")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_publish_twenty, args=(url, trained)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    entries = Registry(url).entries()
    assert [entry.version for entry in entries] == list(range(1, 41))
    for entry in entries:
        Registry(url).load(entry)


class TestBuiltIn:
    def test_p100_resolves_until_one_is_published(
        self, tmp_path: Path, trained: TrainedLPM
    ) -> None:
        registry = Registry(str(tmp_path / "r"))
        entry = registry.resolve("p100", "darts")
        assert entry.version == 0
        assert registry.resolve("p100@0", "darts") == entry
        lpm, card = registry.load(entry)
        assert "not measured by latkit" in card.training["warning"]
        assert registry.weights_digest(entry).startswith("sha256:")
        assert lpm.predict(SPACE.encode(SPACE.unrank([1, 2]))).min() > 0
        target = dataclasses.replace(card.target, backend="torch-cpu")
        registry.publish(trained.lpm, dataclasses.replace(trained.card, target=target))
        assert registry.resolve("p100", "darts").version == 1
        for still in ("p100@0", "p100/torch-cuda", entry.reference):
            assert registry.resolve(still, "darts") == entry

    def test_is_of_its_space_only(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no LPM for device 'p100'"):
            Registry(str(tmp_path)).resolve("p100", "fbnet")

    def test_cannot_be_removed(self, tmp_path: Path) -> None:
        registry = Registry(str(tmp_path))
        with pytest.raises(InputError, match="is built in"):
            registry.remove(registry.resolve("p100", "darts"))


def test_a_removed_version_is_gone(tmp_path: Path, trained: TrainedLPM) -> None:
    registry = Registry(str(tmp_path / "r"))
    first, second = (registry.publish(trained.lpm, trained.card) for _ in range(2))
    registry.remove(first)
    assert registry.entries() == [second]
    assert not (tmp_path / "r" / first.folder).exists()
    assert registry.publish(trained.lpm, trained.card).version == 3


def test_an_unwritable_registry(tmp_path: Path, trained: TrainedLPM) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LatkitError, match=r"Cannot write the registry.*LATKIT_REGISTRY"):
        Registry(str(tmp_path / "file" / "r")).publish(trained.lpm, trained.card)


def test_an_unknown_protocol() -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        Registry("nope://x")
