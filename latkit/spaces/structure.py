"""The one structure of every search space.

A space is a list of *edges*, the *operations* each edge may carry, and disjoint *groups* of
edges of which a fixed number is kept. From these alone follow encoding, decoding, ranking,
unranking, the size of the space, uniform sampling without replacement, and canonical texts.

Architectures are handled in batches as a *choice matrix*: an ``n x E`` int8 array whose entry
is the index of the operation on the edge, or ``ABSENT`` where the edge is not kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from latkit.core.errors import SpaceError
from latkit.spaces.analytic import ABSENT
from latkit.spaces.permutation import feistel

# Datasets keep identifiers as int64.
MAX_FILE_ID = 2**63 - 1

# int64, or Python's integers in an object array where a space is larger than 2^63.
IntArray = npt.NDArray[np.int64]
ChoiceMatrix = npt.NDArray[np.int8]
Encoding = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Edge:
    """A directed connection between two nodes of a cell."""

    source: int
    target: int


@dataclass(frozen=True)
class Group:
    """Edges (by index) of which exactly ``keep`` are present in an architecture."""

    edges: tuple[int, ...]
    keep: int


class Structure:
    """A finite set of architectures over edges, operations and groups.

    Args:
        name: the space's name in files and on the command line.
        operations: names of all operations; their order is the encoding's order.
        choices: indices of the operations an architecture may carry (DARTS: all but ``none``).
        edges: the edges; their order is the encoding's order.
        groups: disjoint groups covering every edge.
        inputs: nodes that are there before any edge; by default the sources that are no targets.
        outputs: nodes that the architecture's result is made of; by default all targets.
    """

    def __init__(
        self,
        name: str,
        operations: Sequence[str],
        choices: Sequence[int],
        edges: Sequence[Edge],
        groups: Sequence[Group],
        inputs: Sequence[int] | None = None,
        outputs: Sequence[int] | None = None,
    ) -> None:
        self.name = name
        self.operations = tuple(operations)
        self.choices = tuple(choices)
        self.edges = tuple(edges)
        self.groups = tuple(groups)
        covered = sorted(edge for group in self.groups for edge in group.edges)
        if covered != list(range(len(self.edges))):
            raise ValueError(f"the groups of {name} must cover each edge exactly once")
        targets = sorted({edge.target for edge in self.edges})
        sources = sorted({edge.source for edge in self.edges} - set(targets))
        self.inputs = tuple(sources if inputs is None else inputs)
        self.outputs = tuple(targets if outputs is None else outputs)
        self._id_type = np.int64 if self.size <= MAX_FILE_ID + 1 else object

    @property
    def num_edges(self) -> int:
        return len(self.edges)

    @property
    def num_operations(self) -> int:
        return len(self.operations)

    @property
    def encoding_size(self) -> int:
        """Number of bits of an encoding: one per edge and operation (DARTS: 14 x 8 = 112)."""
        return self.num_edges * self.num_operations

    @property
    def kept_edges(self) -> int:
        """Number of edges an architecture has, which is the number of ones in an encoding."""
        return sum(group.keep for group in self.groups)

    @cached_property
    def size(self) -> int:
        """Number of distinct architectures."""
        return math.prod(self._group_sizes)

    def file_ids(self, matrix: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """What stands in the column ``arch_id`` of a dataset.

        The identifier, of which only the lower 63 bits are kept in a space that has more; there
        the text of a row says which architecture it is.
        """
        return np.asarray(self.rank(matrix) & MAX_FILE_ID).astype(np.int64)

    def from_file(self, file_ids: npt.NDArray[np.int64], texts: Sequence[str]) -> ChoiceMatrix:
        """The architectures of a dataset's rows, by ``arch_id`` and ``arch``.

        Raises:
            SpaceError: a row is not of the space.
        """
        if self.size <= MAX_FILE_ID + 1:
            return self.unrank(file_ids)
        none = np.empty((0, self.num_edges), dtype=np.int8)
        return np.concatenate([none, *(self.parse(text) for text in texts)])

    @cached_property
    def _group_sizes(self) -> tuple[int, ...]:
        return tuple(
            math.comb(len(group.edges), group.keep) * len(self.choices) ** group.keep
            for group in self.groups
        )

    @cached_property
    def kept_combinations(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Per group, every set of edges that can be kept: ``num_sets x keep`` edge indices."""
        return tuple(
            np.array(list(combinations(group.edges, group.keep)), dtype=np.int64).reshape(
                -1, group.keep
            )
            for group in self.groups
        )

    # --- identifiers -----------------------------------------------------------------------

    def unrank(self, arch_ids: npt.ArrayLike) -> ChoiceMatrix:
        """Architectures of the given identifiers.

        Args:
            arch_ids: ``n`` integers in ``[0, size)``.

        Returns:
            An ``n x E`` choice matrix.

        Raises:
            SpaceError: an identifier is outside the space.
        """
        ids = self._check_ids(arch_ids)
        choices = np.asarray(self.choices, dtype=np.int8)
        matrix = np.full((len(ids), self.num_edges), ABSENT, dtype=np.int8)
        rows = np.arange(len(ids))
        rest: Any = ids.copy()
        for group, size, sets in reversed(
            list(zip(self.groups, self._group_sizes, self.kept_combinations, strict=True))
        ):
            rest, digit = rest // size, (rest % size).astype(np.int64)
            which_set, digit = np.divmod(digit, len(choices) ** group.keep)
            for position in reversed(range(group.keep)):
                digit, choice = np.divmod(digit, len(choices))
                matrix[rows, sets[which_set, position]] = choices[choice]
        return matrix

    def _check_ids(self, arch_ids: npt.ArrayLike) -> IntArray:
        given = np.atleast_1d(np.asarray(arch_ids))
        outside = (given < 0) | (given >= self.size)
        if outside.any():
            raise SpaceError(
                f"arch_id {int(given[outside][0])} is outside the space {self.name}",
                f"use identifiers from 0 to {self.size - 1}",
            )
        ids: IntArray = given.astype(self._id_type)
        return ids

    def rank(self, matrix: npt.ArrayLike) -> IntArray:
        """Identifiers of architectures: the inverse of :meth:`unrank`.

        Args:
            matrix: an ``n x E`` choice matrix (or one row of it).

        Returns:
            ``n`` integers in ``[0, size)``.

        Raises:
            SpaceError: a row is not an architecture of this space.
        """
        array = self.validate(matrix)
        position_of_choice = np.zeros(self.num_operations, dtype=np.int64)
        position_of_choice[list(self.choices)] = np.arange(len(self.choices))
        ids: IntArray = np.zeros(len(array), dtype=self._id_type)
        for group, size, sets in zip(
            self.groups, self._group_sizes, self.kept_combinations, strict=True
        ):
            columns = array[:, group.edges]
            kept = columns != ABSENT
            # A stable sort of "not kept" puts the kept edges first, in edge order.
            order = np.argsort(~kept, axis=1, kind="stable")[:, : group.keep]
            edges = np.asarray(group.edges)[order]
            matches = (edges[:, None, :] == sets[None, :, :]).all(axis=2)
            digit = matches.argmax(axis=1)
            for position in range(group.keep):
                operation = np.take_along_axis(columns, order[:, position : position + 1], 1)[:, 0]
                digit = digit * len(self.choices) + position_of_choice[operation]
            ids = ids * size + digit
        return ids

    def validate(self, matrix: npt.ArrayLike) -> ChoiceMatrix:
        """``matrix`` as an ``n x E`` choice matrix whose every row is in the space.

        Raises:
            SpaceError: a row keeps the wrong number of edges or carries a foreign operation.
        """
        wide = np.atleast_2d(np.asarray(matrix))
        array: ChoiceMatrix = wide.astype(np.int8)
        if array.shape[1] != self.num_edges:
            raise SpaceError(
                f"an architecture of {self.name} has {self.num_edges} edges, got {array.shape[1]}",
                f"pass an n x {self.num_edges} choice matrix",
            )
        allowed = np.isin(wide, (*self.choices, ABSENT)).all(axis=1)
        for group in self.groups:
            allowed &= (array[:, group.edges] != ABSENT).sum(axis=1) == group.keep
        if not allowed.all():
            row = int(np.flatnonzero(~allowed)[0])
            raise SpaceError(
                f"row {row} is not an architecture of {self.name}",
                f"keep {self.kept_edges} edges, with the fixed number in each group, and use "
                f"only {', '.join(self.operations[c] for c in self.choices)}",
            )
        return array

    # --- encodings -------------------------------------------------------------------------

    def encode(self, matrix: npt.ArrayLike) -> Encoding:
        """One-hot encodings (paper, section 3.2): ``n x (E * O)`` zeros and ones."""
        array = self.validate(matrix)
        one_hot = array[:, :, None] == np.arange(self.num_operations, dtype=np.int8)
        bits: Encoding = one_hot.reshape(len(array), self.encoding_size).astype(np.float32)
        return bits

    def decode(self, encoding: npt.ArrayLike) -> ChoiceMatrix:
        """The inverse of :meth:`encode`.

        Raises:
            SpaceError: the array is not a batch of encodings of this space.
        """
        bits = np.atleast_2d(np.asarray(encoding))
        if bits.shape[1] != self.encoding_size or not np.isin(bits, (0, 1)).all():
            raise SpaceError(
                f"not an encoding of {self.name}: shape {bits.shape}",
                f"pass an n x {self.encoding_size} array of zeros and ones",
            )
        per_edge = bits.reshape(len(bits), self.num_edges, self.num_operations)
        if (per_edge.sum(axis=2) > 1).any():
            raise SpaceError(
                f"not an encoding of {self.name}: an edge carries two operations",
                "set at most one bit per edge",
            )
        matrix = np.where(per_edge.any(axis=2), per_edge.argmax(axis=2), ABSENT)
        return self.validate(matrix.astype(np.int8))

    # --- sampling --------------------------------------------------------------------------

    def sample(self, n: int, seed: int, start: int = 0) -> IntArray:
        """Identifiers of architectures ``start .. start + n`` of the list that ``seed`` names.

        The list is a keyed pseudo-random permutation of the whole space (a Feistel network on
        the smallest even number of bits that holds the space, walked until it lands inside),
        so the i-th architecture is a function of (space, seed, i) alone, no two are equal, and
        a longer list begins with the shorter one.

        Raises:
            SpaceError: the list would be longer than the space.
        """
        if n < 0 or start < 0 or start + n > self.size:
            raise SpaceError(
                f"cannot take {n} distinct architectures from {start} on: "
                f"{self.name} has {self.size}",
                "ask for fewer",
            )
        half = np.uint64(max(1, math.ceil((self.size - 1).bit_length() / 2)))
        keys = np.random.default_rng(seed).integers(0, 2**64, size=8, dtype=np.uint64)
        join = np.uint64 if self._id_type is np.int64 else object
        values = np.arange(start, start + n, dtype=np.uint64).astype(join)
        pending = np.arange(n)
        while len(pending):
            values[pending] = feistel(values[pending], keys, half)
            pending = pending[values[pending] >= self.size]
        return values.astype(self._id_type)

    def operations_of(self, row: npt.ArrayLike) -> tuple[str, ...]:
        """The operations on the kept edges of one row of a choice matrix."""
        array = self.validate(row)[0]
        return tuple(self.operations[choice] for choice in array.tolist() if choice != ABSENT)

    # --- text ------------------------------------------------------------------------------

    def format(self, row: npt.ArrayLike) -> str:
        """Canonical text of one architecture, ``|op~source|...|+|...|``, a block a target node."""
        array = self.validate(row)[0]
        blocks: dict[int, list[tuple[int, str]]] = {edge.target: [] for edge in self.edges}
        for edge, operation in zip(self.edges, array.tolist(), strict=True):
            if operation != ABSENT:
                blocks[edge.target].append((edge.source, self.operations[operation]))
        return "+".join(
            "|" + "|".join(f"{name}~{source}" for source, name in sorted(blocks[target])) + "|"
            for target in sorted(blocks)
        )

    def parse(self, text: str) -> ChoiceMatrix:
        """The architecture of a canonical text, as a ``1 x E`` choice matrix.

        Raises:
            SpaceError: the text is malformed or names something outside the space.
        """
        fix = f"write it like {self.format(self.unrank(0)[0])}"
        targets = sorted({edge.target for edge in self.edges})
        blocks = text.strip().split("+")
        if len(blocks) != len(targets):
            raise SpaceError(f"{text[:80]!r} is not an architecture of {self.name}", fix)
        position = {(edge.source, edge.target): i for i, edge in enumerate(self.edges)}
        row = np.full(self.num_edges, ABSENT, dtype=np.int8)
        for target, block in zip(targets, blocks, strict=True):
            for item in block.strip().strip("|").split("|"):
                match = re.fullmatch(r"([a-z0-9_]+)~(\d+)", item)
                edge = position.get((int(match[2]), target)) if match else None
                if match is None or edge is None or match[1] not in self.operations:
                    raise SpaceError(
                        f"{item[:80]!r} is not an edge into node {target} of {self.name}", fix
                    )
                if row[edge] != ABSENT:
                    raise SpaceError(f"node {target} has two edges from {match[2]}", fix)
                row[edge] = self.operations.index(match[1])
        return self.validate(row)
