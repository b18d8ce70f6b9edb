"""Drawing an architecture into a file, weighed by what an LPM predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latkit.core.errors import InputError, LatkitError, SpaceError, from_os_error
from latkit.core.files import write_atomically
from latkit.core.locks import sole_writer
from latkit.core.quantities import get_quantity
from latkit.core.requests import set_paths
from latkit.reports.figures.canvas import SUFFIXES, write_picture
from latkit.reports.figures.cells import architecture_picture
from latkit.spaces import SPACES, ChoiceMatrix, SearchSpace, get_space
from latkit.spaces.graph import Graph, graphs_of
from latkit.spaces.reader import Given, NamedArchitecture, as_row, read_architecture

if TYPE_CHECKING:
    from latkit.lpm.prediction import PublishedLPM

LONGEST_TITLE = 50


@dataclass(frozen=True)
class DrawRequest:
    """What is to be drawn, and where.

    Attributes:
        architecture: a name, a text, an identifier or a file; see
            :func:`latkit.spaces.reader.read_architectures`.
        out: file, ``*.svg``, ``*.png`` or ``*.pdf``.
        device: reference of an LPM that weighs the operations; None: all are alike.
        space: of the architecture; None: the first one that it is of.
        registry: URL of the LPMs; None: the default one.
    """

    architecture: Given
    out: Path
    device: str | None = None
    space: str | None = None
    registry: str | None = None

    def __post_init__(self) -> None:
        set_paths(self, "out")


@dataclass(frozen=True)
class DrawnGraph:
    """A drawn graph: its title, and its operations in order, each with its share if known."""

    title: str
    operations: tuple[tuple[str, float | None], ...]

    def to_dict(self) -> dict[str, Any]:
        rows = [{"operation": name, "share": share} for name, share in self.operations]
        return {"title": self.title, "operations": rows}


@dataclass(frozen=True)
class DrawResult:
    """A drawing.

    Attributes:
        file: where it is.
        format: ``svg``, ``png`` or ``pdf``.
        space: of the architecture.
        architecture: its text.
        graphs: what was drawn, of DARTS a graph a cell.
        lpm: reference of the LPM that weighed the operations; None: none did.
        predicted: by it; None: no LPM, or it predicts no such architecture.
        unit: of ``predicted``.
    """

    file: Path
    format: str
    space: str
    architecture: str
    graphs: tuple[DrawnGraph, ...]
    lpm: str | None = None
    predicted: float | None = None
    unit: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "file": str(self.file),
            "graphs": [graph.to_dict() for graph in self.graphs],
        }


@dataclass(frozen=True)
class Weighed:
    """What an LPM says of an architecture's operations.

    Attributes:
        predicted: of the whole network.
        shares: of each edge that the architecture keeps.
    """

    predicted: float
    shares: dict[int, float]


def weigh(lpm: PublishedLPM, row: ChoiceMatrix) -> Weighed:
    """The share of the prediction that each operation takes.

    It is what the prediction loses when the operation alone is replaced by the one of its edge that
    is predicted the cheapest, usually the skip connection. Only architectures of the space are
    predicted, so it has the same meaning with every kind of LPM; of one with ``coefficients`` it is
    the difference of two of them. What is left to 100 % is the network around, and what the
    cheapest choices take.

    Args:
        lpm: of the row's space.
        row: of a choice matrix, ``1 x E``.
    """
    space = get_space(lpm.space)
    kept = np.flatnonzero(space.validate(row)[0] >= 0)
    others = np.repeat(row, len(kept) * len(space.choices), axis=0)
    for number, edge in enumerate(kept):
        rows = slice(number * len(space.choices), (number + 1) * len(space.choices))
        others[rows, edge] = space.choices
    predicted = lpm.predict_encodings(space.encode(np.concatenate([row, others])))
    cheapest = predicted[1:].reshape(len(kept), len(space.choices)).min(axis=1)
    shares = np.maximum(predicted[0] - cheapest, 0) / predicted[0]
    return Weighed(float(predicted[0]), dict(zip(kept.tolist(), map(float, shares), strict=True)))


def draw(request: DrawRequest) -> DrawResult:
    """Draw an architecture.

    Raises:
        InputError: the file's suffix is none of a picture, nothing reads the architecture, its
            space draws none, the LPM is unknown or does not weigh it, or another process writes
            the file.
        LPMError: the LPM cannot be read.
        LatkitError: a file cannot be read or written.
    """
    suffix = request.out.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{request.out} has not the name of a picture",
            f"end it in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
        )
    space, named = _read(request.architecture, request.space)
    graphs = graphs_of(space, named.cell)
    lpm = weighed = None
    title = _title(named, space)
    note = ""
    if request.device is not None:
        from latkit.registry import load_lpm  # which loads PyTorch

        lpm = load_lpm(request.device, space.name, request.registry)
        weighed = weigh(lpm, as_row(named.cell, space))
        noun = get_quantity(lpm.quantity).noun
        note = (
            f"predicted by {lpm.reference}: {weighed.predicted:.2f} {lpm.unit}; %: the share of "
            f"that {noun} above the cheapest choice"
        )
    picture = architecture_picture(graphs, title, None if weighed is None else weighed.shares, note)
    try:
        with sole_writer(request.out):
            write_atomically(request.out, lambda to: write_picture(picture, to, suffix[1:], title))
    except OSError as error:
        raise from_os_error(error, f"write {request.out}", "nothing was changed") from None
    return DrawResult(
        file=request.out,
        format=suffix[1:],
        space=space.name,
        architecture=_text(named, space),
        graphs=tuple(_drawn(graph, weighed) for graph in graphs),
        lpm=None if lpm is None else lpm.reference,
        predicted=None if weighed is None else weighed.predicted,
        unit=None if lpm is None else lpm.unit,
    )


def _drawn(graph: Graph, weighed: Weighed | None) -> DrawnGraph:
    shares: dict[int, float] = {} if weighed is None else weighed.shares
    return DrawnGraph(
        graph.title,
        tuple(
            (link.operation, None if link.edge is None else shares.get(link.edge))
            for link in graph.links
            if link.operation is not None
        ),
    )


def _read(given: Given, space: str | None) -> tuple[SearchSpace, NamedArchitecture]:
    """The architecture, and the first space that it is of."""
    first: LatkitError | None = None
    for name in SPACES.names() if space is None else [space]:
        if not SPACES.is_own(name) and name in SPACES.broken():
            continue
        found = get_space(name)
        try:
            named = read_architecture(given, found)
        except (InputError, SpaceError) as error:
            first = first or error
            continue
        if isinstance(named.cell, np.ndarray) or named.cell.space == name:
            return found, named
    assert first is not None
    raise first


def _title(named: NamedArchitecture, space: SearchSpace) -> str:
    label = " ".join(named.label.split())
    if len(label) > LONGEST_TITLE:
        label = f"{label[: LONGEST_TITLE - 1]}…"
    return f"{label} ({space.name})"


def _text(named: NamedArchitecture, space: SearchSpace) -> str:
    cell = named.cell
    return space.format(cell) if isinstance(cell, np.ndarray) else str(cell)
