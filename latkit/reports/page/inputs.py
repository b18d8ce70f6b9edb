"""What a report is made of, found and read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latkit.core.errors import InputError, LatkitError, from_os_error
from latkit.core.events import SILENT, Listener
from latkit.core.files import expand_user
from latkit.core.storage import Storage
from latkit.dataset import LatencyDataset
from latkit.dataset.check import DatasetCheck, check_dataset
from latkit.dataset.format import MANIFEST
from latkit.lpm.prediction import PublishedLPM
from latkit.lpm.store import CARD, read_lpm
from latkit.registry import Registry
from latkit.reports.page.content import Content, read_json
from latkit.spaces import SPACES

UNDERSTOOD = (
    "a dataset, an LPM (a folder, or a reference such as p100), a search or sweep, a one-shot "
    "search or what was retargeted from it, a training, a measurement, a benchmark's JSON, what "
    "latkit train-lpm --json printed, or a folder of these"
)
MEASUREMENT, TRAINING, RESULT, SWEEP = (
    "measurement.json", "training.json", "result.json", "sweep.json",
)  # fmt: skip
# Kinds that files name themselves, each of format version 1.
_NAMED = ("training", "measurement", "one-shot", "retarget")
# Files by whose names a folder is known, and what it is; the first one that is there decides.
MARKERS = {
    MEASUREMENT: "measurement",
    TRAINING: "training",
    MANIFEST: "dataset",
    CARD: "LPM",
    SWEEP: "sweep",
    RESULT: "search",
}


@dataclass(frozen=True)
class MadeDataset:
    """A dataset, its quality, and what the user calls it."""

    name: str
    dataset: LatencyDataset
    check: DatasetCheck

    @property
    def device(self) -> str:
        """The device and the backend."""
        target = self.dataset.manifest.target
        return f"{target.device} ({target.backend})"


@dataclass
class Inputs:
    """What was read, by kind, in the order in which it was found.

    Attributes:
        listed: of everything, what the user calls it and its kind.
        left_out: why a file of a searched folder could not be read, a line each.
    """

    datasets: list[MadeDataset] = field(default_factory=list)
    lpms: list[PublishedLPM] = field(default_factory=list)
    fits: list[Content] = field(default_factory=list)
    searches: list[Content] = field(default_factory=list)
    one_shots: list[Content] = field(default_factory=list)
    retargets: list[Content] = field(default_factory=list)
    sweeps: list[Content] = field(default_factory=list)
    trainings: list[Content] = field(default_factory=list)
    measurements: list[Content] = field(default_factory=list)
    benchmarks: list[Content] = field(default_factory=list)
    listed: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read_inputs(
    given: Sequence[str], registry: str | None = None, listener: Listener = SILENT
) -> Inputs:
    """Everything that some inputs name or hold.

    Args:
        given: folders, files, references of LPMs.
        registry: URL of the LPMs; None: the default one.
        listener: receives a warning for what a searched folder holds that cannot be read.

    Raises:
        InputError: an input is none of the kinds, or its file is malformed; a folder holds none.
        LatkitError: a dataset, an LPM or a file cannot be read.
    """
    inputs = Inputs()
    seen: set[Path] = set()
    for text in given:
        path = expand_user(text)
        if os.path.isdir(path) and _marker(path) is None:
            _search(path, inputs, seen, listener)
        elif os.path.isdir(path):
            _add_folder(path, inputs, seen)
        elif os.path.exists(path):
            _add_file(path, inputs, seen)
        else:
            lpm = _resolve(text, registry)
            inputs.lpms.append(lpm)
            inputs.listed.append((lpm.reference, "LPM"))
    return inputs


def _marker(folder: Path) -> str | None:
    # Not Path.is_file, which raises for a link to a name that is too long.
    return next((name for name in MARKERS if os.path.isfile(folder / name)), None)


def _search(folder: Path, inputs: Inputs, seen: set[Path], listener: Listener) -> None:
    """Add whatever is below a folder, and note what cannot be read."""
    before = len(inputs.listed) + len(inputs.left_out)
    for path in _below(folder):
        try:
            if path.name in MARKERS:
                _add_folder(path.parent, inputs, seen)
            elif _kind_of(content := read_json(path)) is not None:
                _add_content(path, content, inputs, seen)
        except LatkitError as error:
            if path.name in MARKERS:
                inputs.left_out.append(str(error))
                listener.warn(f"left out: {error}")
    if len(inputs.listed) + len(inputs.left_out) == before:
        raise InputError(f"{folder} holds nothing that a report shows", f"name {UNDERSTOOD}")


def _below(folder: Path) -> Iterator[Path]:
    """JSON files below a folder, but for hidden ones."""

    def failed(error: OSError) -> None:
        raise from_os_error(error, f"list {folder}", "nothing was changed") from None

    for root, folders, files in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root) / name for name in sorted(files) if name.endswith(".json"))


def _add_folder(folder: Path, inputs: Inputs, seen: set[Path]) -> None:
    """Add what a folder is, and of a sweep the searches in it."""
    marker = _marker(folder)
    if marker is None:  # what has the name is a link to nothing, or no plain file
        raise InputError(f"a file of {folder} is missing", "put it where the link to it is")
    if (folder / marker).resolve() in seen:
        return
    seen.add((folder / marker).resolve())
    kind, name = MARKERS[marker], str(folder)
    if kind == "dataset":
        dataset = LatencyDataset.open(folder)
        inputs.datasets.append(MadeDataset(name, dataset, check_dataset(dataset)))
    elif kind == "LPM":
        lpm, card = read_lpm(Storage(str(folder.resolve().parent)), folder.resolve().name)
        inputs.lpms.append(PublishedLPM(lpm, card, name))
    else:
        seen.discard((folder / marker).resolve())
        path = folder / marker
        _add_content(path, Content(name, read_json(path).value), inputs, seen)
        for search in sorted(folder.glob(f"*/{RESULT}")) if kind == "sweep" else []:
            _add_folder(search.parent, inputs, seen)
        return
    inputs.listed.append((name, kind))


def _add_file(path: Path, inputs: Inputs, seen: set[Path]) -> None:
    if path.name in MARKERS:
        _add_folder(path.parent, inputs, seen)
        return
    if path.suffix.lower() != ".json":
        raise InputError(f"{path} is nothing that a report shows", f"name {UNDERSTOOD}")
    _add_content(path, read_json(path), inputs, seen)


def _add_content(path: Path, content: Content, inputs: Inputs, seen: set[Path]) -> None:
    kind = _kind_of(content)
    if kind is None:
        raise InputError(f"{path} is nothing that a report shows", f"name {UNDERSTOOD}")
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    version = content.get("format_version")
    if kind in _NAMED and version != 1:
        raise InputError(
            f"{path} has format version {version}, this latkit reads 1",
            "use the version of latkit that wrote it",
        )
    {
        "search": inputs.searches,
        "one-shot": inputs.one_shots,
        "retarget": inputs.retargets,
        "sweep": inputs.sweeps,
        "training": inputs.trainings,
        "measurement": inputs.measurements,
        "trained LPM": inputs.fits,
        "benchmark": inputs.benchmarks,
    }[kind].append(content)
    inputs.listed.append((content.source, kind))


def _kind_of(content: Content) -> str | None:
    """What a JSON object is, by its fields."""
    value = content.value
    if value.get("kind") in _NAMED:
        return str(value["kind"])
    if {"metrics", "baselines", "target", "training"} <= set(value):
        return "trained LPM"
    if {"genotype", "found", "target", "epochs"} <= set(value):
        return "search"
    if isinstance(value.get("searches"), list) and "latkit_version" in value:
        return "sweep"
    dated = any(isinstance(content.get(path), str) for path in ("date", "conditions.date"))
    return "benchmark" if dated or "benchmark" in value else None


def _resolve(text: str, registry: str | None) -> PublishedLPM:
    """The LPM of a reference, of whatever space.

    Raises:
        InputError: there is none; the message says what an input may be.
        LPMError: it cannot be read.
    """
    opened = Registry(registry)
    for space in SPACES.names():
        try:
            entry = opened.resolve(text, space)
        except InputError:
            continue
        return PublishedLPM(*opened.load(entry), entry.reference)
    raise InputError(
        f"{text!r} is no file or folder, and no LPM of the registry {opened.url}",
        f"name {UNDERSTOOD}",
    )
