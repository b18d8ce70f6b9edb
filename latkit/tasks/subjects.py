"""What ``latkit measure`` is given, as one kind of thing: networks of spaces, and other models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from latkit.backends.base import Backend, Runner
from latkit.core.errors import BackendError, InputError
from latkit.networks.models import Model, first_tensor, is_model, load_model
from latkit.spaces import Architecture, Setting, get_space
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.darts.zoo import find_genotype
from latkit.spaces.reader import read_architectures
from latkit.tasks.paper_tables import PublishedRow

Output = npt.NDArray[np.float32]
ZOO_PREFIX = "zoo:"
# Of outputs relative to the largest: what another runtime may compute of a module.
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Subject(ABC):
    """A network to be measured.

    Attributes:
        what: as the user wrote it.
        name: for people.
        setting: how it is run; of an architecture also the network around it.
        params, macs: of it, the latter for one sample; None: not known.
        published: the paper's row, if it is of one of its tables.
    """

    what: str
    name: str
    setting: Setting
    params: int
    macs: int | None
    macs_reason: str = ""
    published: PublishedRow | None = None

    @property
    @abstractmethod
    def text(self) -> str:
        """Names the network on every device alike, without batch and runtime."""

    @property
    @abstractmethod
    def batch(self) -> int:
        """Samples a run where the user names none."""

    @abstractmethod
    def shape(self, batch: int) -> tuple[int, ...]:
        """Of the first input."""

    @abstractmethod
    def compile(self, backend: Backend, batch: int, seed: int) -> Runner:
        """A runner of it.

        Raises:
            BackendError, InputError: the backend cannot take it.
        """

    def expect(self, backend: Backend, batch: int, seed: int) -> Output | None:
        """What a run has to compute; None: what it computes is not compared.

        Raises:
            InputError: it takes another batch.
        """
        return None

    def check(self, runner: Runner, expected: Output | None) -> None:
        """Refuse to measure what computes something else.

        Raises:
            BackendError, InputError: it does, or fails to run.
        """
        return


@dataclass(frozen=True, kw_only=True)
class ArchitectureSubject(Subject):
    """A network of a search space."""

    architecture: Architecture

    @property
    def text(self) -> str:
        network = self.setting.network.slug(1)
        return f"{self.architecture} {self.setting.space}:{network} {self.setting.precision}"

    @property
    def batch(self) -> int:
        return self.setting.batch

    def shape(self, batch: int) -> tuple[int, ...]:
        return (batch, 3, self.setting.resolution, self.setting.resolution)

    def compile(self, backend: Backend, batch: int, seed: int) -> Runner:
        return backend.compile(self.architecture, self.setting.replace(batch=batch), seed)


@dataclass(frozen=True, kw_only=True)
class ModelSubject(Subject):
    """A model of no space."""

    model: Model

    @property
    def text(self) -> str:
        return f"{self.model.identity} {self.model.shapes} {self.setting.precision}"

    @property
    def batch(self) -> int:
        return self.model.batch

    def shape(self, batch: int) -> tuple[int, ...]:
        return (batch, *self.model.inputs[0].shape[1:])

    def compile(self, backend: Backend, batch: int, seed: int) -> Runner:
        return backend.compile_model(self.model.at_batch(batch), self.setting.run, seed)

    def expect(self, backend: Backend, batch: int, seed: int) -> Output | None:
        model = self.model.at_batch(batch)
        # PyTorch's own backends run the module itself.
        if model.module is None or "onnx" not in backend.model_kinds:
            return None
        with torch.inference_mode():
            output: Output = first_tensor(model.module(*model.tensors(seed))).float().numpy()
        return output

    def check(self, runner: Runner, expected: Output | None) -> None:
        output = runner.logits()
        if not np.isfinite(output).all():
            raise InputError(
                f"{self.what} computes NaN or infinity of random inputs",
                "check its weights; a network that is not trained may need other initial values",
            )
        if expected is None:
            return
        error = np.inf
        if expected.shape == output.shape:
            error = float(np.abs(output - expected).max() / (np.abs(expected).max() or 1.0))
        if not error <= TOLERANCE:
            raise BackendError(
                f"{self.what} computes something else than in PyTorch (relative error {error:.1e})",
                "export it yourself, compare, and name the file",
            )


def read_subjects(
    what: str,
    setting: Setting,
    inputs: tuple[str, ...] = (),
    seed: int = 0,
    published: PublishedRow | None = None,
) -> list[Subject]:
    """The networks that one argument names.

    Args:
        what: a model (``latkit.networks.models``), ``zoo:NAME``, or what the reader of
            architectures takes.
        setting: how it is run, and the network around architectures.
        inputs: shapes of a model's inputs.
        seed: of a model's random weights.
        published: the row of the paper that it is.

    Raises:
        InputError, SpaceError: it names nothing, or what does not fit the setting.
        LatkitError: a file cannot be read.
    """
    name = published.name if published is not None else what
    if is_model(what):
        model = load_model(what, inputs, seed)
        return [
            ModelSubject(
                what=what, name=name, setting=setting, params=model.params, macs=model.macs,
                macs_reason=model.macs_reason, published=published, model=model,
            )
        ]  # fmt: skip
    if published is not None:
        setting = setting.replace(**published.changes)
    space = get_space(setting.space)
    given = what.removeprefix(ZOO_PREFIX)
    if given != what and space.find(given) is None:
        if find_genotype(given) is None:
            space.parse(given.replace("(", ""))  # which names those that are there
        raise InputError(f"{setting.space} has no {given}", "name a --setting of its space")
    space.architecture(space.unrank(0)[0], setting.network)  # refuses spaces without networks
    subjects: list[Subject] = []
    for found in read_architectures(given, space):
        cell = found.cell
        network = (
            space.architecture(cell[0], setting.network) if isinstance(cell, np.ndarray) else cell
        )
        cost = architecture_cost(network, setting)
        label = name if published is not None or found.label == given else found.label
        subjects.append(
            ArchitectureSubject(
                what=what, name=label, setting=setting, params=cost.params, macs=cost.macs,
                published=published, architecture=network,
            )
        )  # fmt: skip
    return subjects


def row_text(subject: Subject, batch: int, pause_ms: float) -> str:
    """What stands for a measured configuration in a dataset's column ``arch``."""
    pause = f" pause_ms={pause_ms:g}" if pause_ms else ""
    return f"{subject.text} batch={batch}{pause}"
