"""What a supernet is, of whatever space, and all of them by name.

A supernet has an ``E x O`` matrix α for each kind of cell (Eq. 1 of the paper); one of them is that
of the space, whose encodings LPMs predict from.

A method is what a user names, and may have a supernet for each of several spaces: those whose names
are ``METHOD`` or ``METHOD.SPACE`` (what follows the dot only keeps names apart).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from latkit.core.errors import InputError, LatkitError
from latkit.core.plugins import Plugins
from latkit.search.decode import log_weights, strongest
from latkit.search.supernet.moves import Moves
from latkit.spaces import Architecture, ChoiceMatrix, SearchSpace
from latkit.spaces.reader import parse_architecture

if TYPE_CHECKING:
    from latkit.search.config import SearchConfig

# Standard deviation of an initial α.
ALPHA_INIT_SCALE = 1e-3


@dataclass
class BatchNormMode:
    """How batch norms are computed.

    Attributes:
        training: by the statistics of the batch, else by the running ones.
        track: a training pass moves the running statistics.
        world: how many processes' batches are one. (Not their group: one that is held outlives
            its end, and its threads then the interpreter.)
        moves: where the moves of running statistics are taken down, for the end of a pass; None:
            they are made at once.
    """

    training: bool = True
    track: bool = True
    world: int = 1
    moves: Moves | None = None


class Supernet(nn.Module, ABC):
    """The over-parameterised network that is trained while α is searched.

    A subclass names its spaces and α matrices, and implements :meth:`build`, :attr:`alphas`,
    :meth:`derive` and ``forward``: logits of ``B x image_channels x H x W`` images. Batch norms
    have to obey ``bn_mode`` where several processes train, and where second order looks ahead
    (:func:`latkit.search.supernet.norms.obey` makes PyTorch's do so).

    Args:
        space: what is searched.

    Attributes:
        spaces: names of the spaces that it can search.
        alpha_names: of its α matrices, as in the columns of a history.
        encoded: the one of them whose operations and edges are the space's.
        derived_name: what messages call that which the encoded one derives to.
        presets: by preset of a search, values of its configuration that differ from those of the
            paper's DARTS.
        most_skips: skip connections that a good architecture has at most; with more the search
            has collapsed. None: there is no such criterion.
        bn_mode: how batch norms are computed.
        max_skips: skip connections that the derived architecture may have; None: any number.
    """

    spaces: ClassVar[tuple[str, ...]]
    alpha_names: ClassVar[tuple[str, ...]]
    encoded: ClassVar[str]
    derived_name: ClassVar[str] = "the architecture"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    most_skips: ClassVar[int | None] = None
    max_skips: int | None = None

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.bn_mode = BatchNormMode()

    @classmethod
    def check(cls, config: SearchConfig) -> None:
        """Refuse values that this supernet cannot have; the default refuses none.

        Raises:
            InputError: one of them.
        """

    @classmethod
    @abstractmethod
    def build(
        cls,
        space: SearchSpace,
        config: SearchConfig,
        classes: int,
        image_channels: int,
        resolution: int,
    ) -> Supernet:
        """The supernet of a search, initialised by PyTorch's global generator.

        Args:
            space: one of ``spaces``.
            config: the search, which :meth:`check` has not refused.
            classes: width of the classifier.
            image_channels: channels of the images.
            resolution: pixels of their sides.
        """

    @property
    @abstractmethod
    def alphas(self) -> dict[str, nn.Parameter]:
        """Of each of ``alpha_names`` the ``E x O`` matrix."""

    @abstractmethod
    def derive(self, row: ChoiceMatrix | None = None) -> Architecture:
        """The discrete architecture of α.

        Args:
            row: instead of what the encoded α derives to; a row of a choice matrix. None: see
                :meth:`strongest_row`.
        """

    def edge_strength(self, name: str) -> Tensor | None:
        """Weights of the edges of an α, ``E``-dim, positive; None if all count alike."""
        return None

    def operations_of(self, architecture: Architecture) -> dict[str, tuple[str, ...]]:
        """Of each of ``alpha_names`` the operations on the edges that an architecture keeps.

        The default knows those of the encoded one alone.
        """
        return {self.encoded: self.space.operations_of(self.space.row_of(architecture))}

    def architecture_parameters(self) -> list[nn.Parameter]:
        """What the α-step optimises; the default is α alone, in the order of ``alpha_names``."""
        return [self.alphas[name] for name in self.alpha_names]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything else."""
        architecture = {id(p) for p in self.architecture_parameters()}
        return [p for p in self.parameters() if id(p) not in architecture]

    @contextmanager
    def only(self, parameters: Sequence[nn.Parameter], track: bool) -> Iterator[None]:
        """Gradients of these parameters alone; ``track``: running statistics move, at the end."""
        chosen = {id(p) for p in parameters}
        required = [(p, p.requires_grad) for p in self.parameters()]
        mode = self.bn_mode
        before = mode.track, mode.moves
        for p, _ in required:
            p.requires_grad_(id(p) in chosen)
        mode.track, mode.moves = track, Moves()
        try:
            yield
            mode.moves.take()
        finally:
            for p, required_before in required:
                p.requires_grad_(required_before)
            mode.track, mode.moves = before

    def strongest_row(self, name: str) -> ChoiceMatrix:
        """What an α derives to, a row of a choice matrix; the encoded one within ``max_skips``."""
        with torch.no_grad():
            logs = log_weights(self.space, self.alphas[name], self.edge_strength(name))
        return strongest(self.space, logs, self.max_skips if name == self.encoded else None)

    def read(self, text: str) -> Architecture:
        """The inverse of ``str`` of what :meth:`derive` gives.

        Raises:
            LatkitError: the text is not an architecture of the space.
        """
        cell = parse_architecture(text, self.space)
        return self.derive(cell[0]) if isinstance(cell, np.ndarray) else cell


_HERE = "latkit.search.supernet"
SUPERNETS: Plugins[Supernet] = Plugins(
    "method",
    "latkit.supernets",
    Supernet,  # type: ignore[type-abstract]
    {
        "darts": f"{_HERE}.network",
        "darts.nasbench201": f"{_HERE}.nasbench201",
        "darts.fbnet": f"{_HERE}.fbnet",
        "pc-darts": f"{_HERE}.pc_darts",
    },
)


def method_names() -> list[str]:
    """All methods, whether their plug-ins load or not."""
    return list(dict.fromkeys(_method_of(name) for name in SUPERNETS.names()))


def methods_of(space: str) -> list[str]:
    """The methods that can search a space; plug-ins that do not load are left out."""
    return [method for method in method_names() if space in _spaces_of(method)]


def get_supernet(method: str, space: str) -> type[Supernet]:
    """The supernet of a method, for a space.

    Raises:
        InputError: there is no such method, or it is for other spaces.
        PluginError: it is a plug-in that does not load.
    """
    if method not in method_names():
        raise InputError(f"unknown method {method!r}", f"use one of: {', '.join(method_names())}")
    supernet = _spaces_of(method).get(space)
    if supernet is not None:
        return supernet
    for name in _names_of(method):
        SUPERNETS.get(name)  # one that does not load may be for this space
    methods = methods_of(space)
    raise InputError(
        f"the method {method} searches {', '.join(_spaces_of(method))}, not {space}",
        f"use --method {' or '.join(methods)}" if methods else _no_method(space),
    )


def default_method(space: str) -> str:
    """The first method that can search a space.

    Raises:
        InputError: there is none.
    """
    methods = methods_of(space)
    if not methods:
        raise InputError(f"no supernet can search the space {space}", _no_method(space))
    return methods[0]


def _method_of(name: str) -> str:
    return name.partition(".")[0]


def _names_of(method: str) -> list[str]:
    return [name for name in SUPERNETS.names() if _method_of(name) == method]


def _spaces_of(method: str) -> dict[str, type[Supernet]]:
    """A method's supernets by the space that each is for; of several for one, the first."""
    found: dict[str, type[Supernet]] = {}
    for name in _names_of(method):
        try:
            supernet = SUPERNETS.get(name)
        except LatkitError:
            continue
        for space in supernet.spaces:
            found.setdefault(space, supernet)
    return found


def _no_method(space: str) -> str:
    return (
        f"search another --space, or install a plug-in of the group {SUPERNETS.group} for {space}"
    )
