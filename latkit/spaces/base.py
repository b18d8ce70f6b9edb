"""What every search space is: a structure, and what is built of its architectures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy.typing as npt

from latkit.core.errors import InputError, SpaceError
from latkit.spaces.analytic import AnalyticTable, Cost
from latkit.spaces.setting import NetworkConfig, Setting
from latkit.spaces.structure import ChoiceMatrix, Edge, Encoding, Group, IntArray, Structure

if TYPE_CHECKING:
    from torch import nn

    from latkit.networks.make import Make

__all__ = [
    "Architecture",
    "ChoiceMatrix",
    "Edge",
    "Encoding",
    "Group",
    "IntArray",
    "SearchSpace",
]


class Architecture(Protocol):
    """What a network is built of; ``str`` gives a text that its space reads."""

    space: ClassVar[str]


class SearchSpace(Structure):
    """A finite set of architectures, and their networks.

    A subclass is made without arguments and passes its structure on. Where networks are to be built
    of it, it sets the class attributes and overrides the methods of the section on networks.

    Attributes:
        config: the class of the space's networks.
        presets: settings by name; the first is used where a user names none. Names are unique
            among all spaces.
        skip: the operation that passes its input on unchanged, where there is one.
        parameter_free: the operations without parameters, ``skip`` among them.
        reference: text of a well-known architecture: the anchor network is made of it, and what is
            found is compared with it.
        trained_in: networks that architectures are trained in, by presets of ``latkit.training``;
            where it is empty, the first of ``presets`` for each of them.
        has_drop_path: whether networks for training have an attribute ``drop_path_probability``.
        has_auxiliary_head: whether they may have a second classifier.
    """

    config: ClassVar[type[NetworkConfig]]
    presets: ClassVar[Mapping[str, Setting]] = {}
    skip: ClassVar[str | None] = None
    parameter_free: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[str]
    trained_in: ClassVar[Mapping[str, NetworkConfig]] = {}
    has_drop_path: ClassVar[bool] = False
    has_auxiliary_head: ClassVar[bool] = False

    def draw(self, architecture: Any) -> str:
        """A drawing of an architecture of this space, in text; the default is its text."""
        return str(architecture)

    # --- networks --------------------------------------------------------------------------

    def find(self, name: str) -> Architecture | None:
        """A well-known architecture by its name, in any case; None where there is none."""
        return None

    def architecture(self, row: npt.ArrayLike, network: NetworkConfig) -> Architecture:
        """What is built of one row of a choice matrix in a network.

        Raises:
            InputError: latkit builds no networks of the space.
        """
        raise self._no_networks()

    def row_of(self, architecture: Architecture) -> ChoiceMatrix:
        """The inverse of :meth:`architecture`: ``1 x E``.

        Raises:
            SpaceError: it is a network's architecture, but not a point of the space.
        """
        return self.parse(str(architecture))

    def build(self, architecture: Any, network: Any, make: Make) -> nn.Module:
        """The network of an architecture in training mode: ``B x 3 x R x R`` to ``B x classes``.

        Args:
            architecture: of this space.
            network: the network around it, of the class ``config``.
            make: how parts are made.

        Raises:
            InputError: latkit builds no networks of the space.
        """
        raise self._no_networks()

    def build_for_training(self, architecture: Any, network: Any, auxiliary: bool) -> nn.Module:
        """The network as :meth:`build` makes it, and what belongs to its training alone.

        Args:
            architecture, network: as there.
            auxiliary: whether it has the auxiliary head; in training mode it then returns (logits,
                auxiliary logits). Names of its tensors begin with ``auxiliary_head.``.

        Raises:
            InputError: latkit builds no networks of the space, or none with that head.
        """
        from latkit.networks.make import construct

        if auxiliary:
            raise InputError(
                f"networks of {self.name} have no auxiliary head", "use --auxiliary-weight 0"
            )
        return self.build(architecture, network, construct)

    def analytic_table(self, network: Any) -> AnalyticTable:
        """Analytic costs of the operations in a network of the class ``config``.

        Raises:
            SpaceError: the space has none; datasets and LPMs of it need them.
        """
        raise SpaceError(
            f"the space {self.name} has no analytic costs", "give its class an analytic_table"
        )

    def cost(self, architecture: Any, network: Any) -> Cost:
        """MACs and parameters of one network, which need not be a point of the space."""
        return self.analytic_table(network).costs(self.row_of(architecture))[0]

    def anchor(self, network: Any) -> tuple[NetworkConfig, str]:
        """A cheaper network of about the same operations, and what makes it cheaper, as a text.

        Its architecture is ``reference``. It is the gauge of the machine's speed while networks of
        this kind are measured (docs/measuring.md), and costs about a third of them.
        """
        return network, ""

    def _no_networks(self) -> InputError:
        return InputError(
            f"latkit builds no networks of the space {self.name}",
            "use a --space that is built, e.g. darts; tables of other spaces come in by latkit "
            "dataset import",
        )
