"""Making a bundle: what ``latkit profile`` measures here, for a board without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latkit.backends import BACKENDS
from latkit.board.bundle import ANCHOR, PLAN, Plan, network_file
from latkit.core.errors import InputError, from_os_error
from latkit.core.events import SILENT, Listener, Progress
from latkit.core.files import write_atomically
from latkit.core.locks import sole_writer
from latkit.core.requests import check_seed, set_paths
from latkit.core.version import __version__
from latkit.dataset import Manifest, Target
from latkit.dataset.statistics import MAX_REPLICATES
from latkit.profiling.anchor import anchor_architecture, anchor_name, anchor_setting
from latkit.profiling.plan import Work, check_count, panel
from latkit.profiling.protocol import Protocol, choose_clock
from latkit.spaces import Setting, default_setting, get_space
from latkit.spaces.architecture import architecture_costs
from latkit.tasks.bundle_file import write_bundle
from latkit.tasks.bundle_format import BundleFormat
from latkit.tasks.bundle_ncnn import NcnnFormat
from latkit.tasks.bundle_onnx import OnnxFormat
from latkit.tasks.bundle_pte import PteFormat
from latkit.tasks.choices import check_effort, choose_protocol, choose_setting

FORMATS: dict[str, type[BundleFormat]] = {
    "onnx": OnnxFormat, "ncnn": NcnnFormat, "pte": PteFormat
}  # fmt: skip
# Of weights and inputs: that of latkit profile.
WEIGHTS_SEED = 0
# A name that a board replaces by its own.
_DEVICE = "board"


@dataclass(frozen=True)
class BundleRequest:
    """What a board is to measure.

    Attributes:
        out: new file, e.g. ``b.pyz``.
        n: number of architectures.
        space: the search space.
        setting: of the networks, or its text; None: the space's first preset.
        to: what the board runs: ``onnx``, graphs for ONNX Runtime; ``ncnn``, ncnn's texts of
            layers; or ``pte``, programs for ExecuTorch.
        protocol: how one architecture is measured, or its preset's name; its threads are
            ``threads``.
        replicates: undisturbed measurements wanted of each architecture, 1 to 16.
        target_error: measure all architectures again until the mean of each has this relative
            error.
        threads: CPU threads of a run.
        seed: names the list, which is that of ``latkit profile``.

    Raises:
        InputError: a value is out of its range.
    """

    out: Path
    n: int = 300
    space: str = "darts"
    setting: Setting | str | None = None
    to: str = "onnx"
    protocol: Protocol | str = "standard"
    replicates: int = 1
    target_error: float | None = None
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        set_paths(self, "out")
        check_seed(self.seed)
        check_effort(self.replicates, self.target_error)


@dataclass(frozen=True)
class BundleResult:
    """A bundle that was made.

    Attributes:
        file: it.
        space, setting: of its networks.
        backend: which measures the same here.
        architectures: of the list.
        networks: in the file: the list, the panel and the anchor.
        bytes: of the file.
        largest_network_bytes: of a network's files, before they are compressed.
        packages: that the board needs.
    """

    file: str
    space: str
    setting: Setting
    backend: str
    architectures: int
    networks: int
    bytes: int
    largest_network_bytes: int
    packages: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        content = {**asdict(self), "setting": self.setting.to_dict()}
        return {**content, "packages": list(self.packages)}


def make_bundle(request: BundleRequest, listener: Listener = SILENT) -> BundleResult:
    """Write a bundle; the file appears complete or not at all.

    Args:
        request: what it is to measure.
        listener: receives the progress.

    Raises:
        InputError: a value does not fit, latkit builds no networks of the space or none whose
            weights follow from the seed, the file exists, or another process writes it.
        BackendError: the runtime cannot run the setting.
        LatkitError: the file cannot be written.
    """
    if request.to not in FORMATS:
        raise InputError(f"unknown format {request.to!r}", f"use one of: {', '.join(FORMATS)}")
    _check_new(request.out)
    space = get_space(request.space)
    check_count(space, request.n)
    made = FORMATS[request.to](WEIGHTS_SEED)
    backend_class = BACKENDS.get(made.backend)
    setting = choose_setting(request.setting or default_setting(request.space), backend_class)
    target = Target(space.name, _DEVICE, made.backend, setting)
    protocol = choose_protocol(request.protocol, request.threads)
    backend = backend_class(threads=request.threads)
    backend.check_setting(setting)
    choose_clock(protocol.clock, backend.clock)
    manifest = Manifest(
        target, {}, protocol.to_dict(), request.seed, anchor_name(setting), requested=request.n
    )
    listed = [int(i) for i in space.sample(request.n, request.seed)]
    ends = [int(i) for i in panel(space, _most_measurements(request, protocol))]
    ids = list(dict.fromkeys([*listed, *ends]))
    places = {arch_id: place for place, arch_id in enumerate(ids)}
    matrix = space.unrank(ids)
    costs = architecture_costs(space, matrix, setting)
    plan = Plan(
        latkit_version=__version__,
        module=made.module,
        packages=made.packages,
        dataset=manifest.to_dict(),
        weights_seed=WEIGHTS_SEED,
        replicates=request.replicates,
        target_error=request.target_error,
        architectures=tuple(
            {"arch_id": file_id, "arch": space.format(row), "macs": c.macs, "params": c.params}
            for file_id, row, c in zip(space.file_ids(matrix).tolist(), matrix, costs, strict=True)
        ),
        listed=tuple(places[i] for i in listed),
        panel=tuple(places[i] for i in ends),
    )
    largest = 0

    def files() -> Iterator[tuple[str, bytes]]:
        nonlocal largest
        yield PLAN, plan.to_json()
        networks = [(ANCHOR, anchor_architecture(setting), anchor_setting(setting))]
        networks += [
            (str(place), space.architecture(row, setting.network), setting)
            for place, row in enumerate(matrix)
        ]
        try:
            for done, (name, architecture, around) in enumerate(networks, start=1):
                contents = made.files(architecture, around)
                largest = max(largest, sum(map(len, contents.values())))
                yield from ((network_file(name, end), c) for end, c in contents.items())
                listener.progress(Progress("networks", done, len(networks)))
        finally:
            listener.end_progress()

    try:
        with sole_writer(request.out):
            _check_new(request.out)
            write_atomically(request.out, lambda to: write_bundle(to, files(), made.module))
        size = request.out.stat().st_size
    except OSError as error:
        raise from_os_error(error, f"write {request.out}", "nothing was written") from None
    return BundleResult(
        file=str(request.out),
        space=space.name,
        setting=setting,
        backend=made.backend,
        architectures=request.n,
        networks=len(ids) + 1,
        bytes=size,
        largest_network_bytes=largest,
        packages=made.packages,
    )


def _check_new(out: Path) -> None:
    if out.exists():
        raise InputError(f"{out} exists", "choose another --out, or remove it")


def _most_measurements(request: BundleRequest, protocol: Protocol) -> int:
    """More than one run on a board makes between its two panels, re-measured ones included."""
    replicates = request.replicates if request.target_error is None else MAX_REPLICATES
    work = Work(request.n, request.seed, protocol.replicate_every, replicates)
    return 2 * work.total
