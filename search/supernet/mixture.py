"""Networks with all operations of a space in them, and the supernet of DARTS that is made of one.

A network is run by *picks*, one for each edge of the space: weights of all its operations, whose
weighted sum then flows on (DARTS), or the index of one of them, which alone is computed
(single-path training). So one tree of modules serves both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy.typing as npt
import torch
from torch import Tensor, nn

from latkit.core.plugins import Plugins
from latkit.search.supernet.base import ALPHA_INIT_SCALE, Supernet
from latkit.search.supernet.norms import obey
from latkit.search.supernet.sums import mix
from latkit.spaces import Architecture, ChoiceMatrix, SearchSpace
from latkit.spaces.setting import NetworkConfig

# Of an edge: weights of its operations, ``O``-dim, or the index of one; ``ABSENT`` where a space
# keeps some of its edges only.
Pick: TypeAlias = "Tensor | int"

# What adds nothing, in the spaces that have it.
NONE = "none"


class Mixture(nn.Module):
    """All operations of one edge.

    Args:
        operations: of the space, in the order of α's columns.
        build: makes the module of each but ``none``, which has no module and is not computed.

    Attributes:
        operations: the modules by their names.
    """

    def __init__(self, operations: Sequence[str], build: Callable[[str], nn.Module]) -> None:
        super().__init__()
        self._names = tuple(operations)
        self.operations = nn.ModuleDict({n: build(n) for n in operations if n != NONE})

    def forward(self, x: Tensor, pick: Pick) -> Tensor:
        """The weighted sum of what all operations make of ``x``, or what one of them makes."""
        if isinstance(pick, int):
            name = self._names[pick]
            return torch.zeros_like(x) if name == NONE else self._run(name, x)
        pairs = zip(self._names, pick.unbind(), strict=True)
        terms, weights = zip(
            *((self._run(name, x), weight) for name, weight in pairs if name != NONE), strict=True
        )
        return mix(terms, torch.stack(weights)[None], [None])[0]

    def _run(self, name: str, x: Tensor) -> Tensor:
        result: Tensor = self.operations[name](x)
        return result


class MixtureNetwork(nn.Module, ABC):
    """A network whose searched parts are mixtures; a space has a subclass.

    Batch norms within mixtures have no affine parameters while α is searched (DARTS, section 3):
    they would only scale what α scales.

    Args:
        space: the space.
        config: the network around an architecture.
        image_channels: channels of the images.

    Attributes:
        presets: by preset of a search, values of its configuration that differ from those of
            DARTS.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, space: SearchSpace, config: NetworkConfig, image_channels: int) -> None:
        super().__init__()
        self.space, self.config = space, config

    @classmethod
    @abstractmethod
    def config_of(cls, cells: int, channels: int, resolution: int, classes: int) -> NetworkConfig:
        """The network around an architecture, as the space describes it.

        Args:
            cells, channels: sizes that a search was given.
            resolution: pixels of the images' sides.
            classes: width of the classifier.

        Raises:
            InputError: one of the sizes cannot be.
        """

    @property
    def blocks(self) -> nn.ModuleList:
        """Cells or layers, in order: the network's first list of modules."""
        return next(child for child in self.children() if isinstance(child, nn.ModuleList))

    @abstractmethod
    def forward(self, x: Tensor, picks: Sequence[Pick]) -> Tensor:
        """Logits of ``B x image_channels x H x W`` images; ``picks`` are of the space's edges."""


# Of each space whose networks can be trained all in one.
MIXTURES: Plugins[MixtureNetwork] = Plugins(
    "space of a one-shot search",
    "latkit.one_shot_networks",
    MixtureNetwork,  # type: ignore[type-abstract]
    {
        "darts": "latkit.search.oneshot.darts",
        "nasbench201": "latkit.search.supernet.nasbench201",
        "fbnet": "latkit.search.supernet.fbnet",
    },
)


class MixtureSupernet(Supernet):
    """DARTS's supernet of a space whose architectures keep every edge: one α, and a network.

    Args:
        space: what is searched.
        config: the network as the space describes it.
        network: the network with all operations.
    """

    def __init__(self, space: SearchSpace, config: NetworkConfig, network: MixtureNetwork) -> None:
        super().__init__(space)
        self.alpha = nn.Parameter(
            ALPHA_INIT_SCALE * torch.randn(space.num_edges, space.num_operations)
        )
        self.config, self.network = config, network
        obey(network, self.bn_mode)

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        return {self.encoded: self.alpha}

    def forward(self, x: Tensor, row: npt.ArrayLike | None = None) -> Tensor:
        """Logits of ``B x image_channels x H x W`` images.

        Args:
            x: the images.
            row: of a choice matrix: the operations of one architecture, which alone are computed;
                None: mixtures by the softmax of α.

        Raises:
            SpaceError: the row is not an architecture of the space.
        """
        self.bn_mode.training = self.training
        picks: Sequence[Pick] = (
            self.alpha.softmax(-1).unbind() if row is None else self.space.validate(row)[0].tolist()
        )
        logits: Tensor = self.network(x.contiguous(memory_format=torch.channels_last), picks)
        return logits

    def derive(self, row: ChoiceMatrix | None = None) -> Architecture:
        chosen = self.strongest_row(self.encoded) if row is None else row
        return self.space.architecture(chosen, self.config)
