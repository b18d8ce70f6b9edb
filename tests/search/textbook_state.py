"""The state of a supernet by the names of the reference code, ``model_search`` of (PC-)DARTS.

There each edge has modules of its own: ``cells.0._ops.5._ops.4.op.1.weight`` is the first depthwise
convolution of ``sep_conv_3x3`` on the sixth edge of the first cell. Here edges of one source are
stacked, and what they share exists once: statistics of a pool's norm are written once an edge, and
read from the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from latkit.core.errors import SearchError
from latkit.search.supernet.network import DartsSupernet, SearchCell
from latkit.search.supernet.source_mix import SKIP, Norms, SourceMix, Stage


def to_textbook(supernet: DartsSupernet) -> dict[str, Tensor]:
    """Weights, running statistics, α and β by their names in the reference code; copies."""
    state: dict[str, Tensor] = {}
    for name, tensor in _names(supernet):
        state[name] = tensor.detach().clone()
    for name in [name for name in state if name.endswith("running_var")]:
        # PyTorch counts batches in each norm; nothing here depends on the count.
        state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    return state


def from_textbook(supernet: DartsSupernet, state: Mapping[str, Tensor]) -> None:
    """Load a state of the reference code.

    α and β may be absent, as they are from a module's ``state_dict``.

    Raises:
        SearchError: a tensor is missing or has another shape.
    """
    seen: set[int] = set()
    for name, tensor in _names(supernet):
        if name not in state:
            if name.startswith(("alphas_", "betas_")):
                continue
            raise SearchError(f"the state lacks {name}", "load the state of the same supernet")
        given = state[name]
        if given.numel() != tensor.numel():
            raise SearchError(
                f"{name} has the shape {tuple(given.shape)}, which is not this supernet's",
                "load the state of a supernet of the same cells, channels and classes",
            )
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            with torch.no_grad():
                tensor.copy_(given.reshape(tensor.shape))


def _names(supernet: DartsSupernet) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the reference code, as a view (in the printed shape) of a tensor here."""
    yield "stem.0.weight", supernet.stem.weight
    for field in ("weight", "bias", "running_mean", "running_var"):
        yield f"stem.1.{field}", getattr(supernet.stem_norm, field)
    for index, cell in enumerate(supernet.cells):
        assert isinstance(cell, SearchCell)
        for side, preprocess in enumerate(cell.preprocess):
            prefix = f"cells.{index}.preprocess{side}."
            weight, norms = preprocess.weight, preprocess.norms
            assert isinstance(weight, Tensor)
            assert isinstance(norms, Norms)
            yield from _reduction_or_conv(prefix, weight, norms, 0)
        yield from _edges(f"cells.{index}._ops.", supernet, cell)
    yield "classifier.weight", supernet.classifier.weight
    yield "classifier.bias", supernet.classifier.bias
    for name, parameter in supernet.named_parameters():
        greek, _, kind = name.partition("_")
        if greek in ("alpha", "beta"):
            yield f"{greek}s_{kind}", parameter


def _reduction_or_conv(
    prefix: str, weight: Tensor, norms: Norms, edge: int
) -> Iterator[tuple[str, Tensor]]:
    if weight.dim() == 3:
        yield f"{prefix}conv_1.weight", weight[0][:, :, None, None]
        yield f"{prefix}conv_2.weight", weight[1][:, :, None, None]
        yield from _norm(f"{prefix}bn.", norms, edge)
    else:
        yield f"{prefix}op.1.weight", weight[:, :, None, None]
        yield from _norm(f"{prefix}op.2.", norms, edge)


def _norm(prefix: str, norms: Norms, edge: int) -> Iterator[tuple[str, Tensor]]:
    yield f"{prefix}running_mean", norms.mean[edge]
    yield f"{prefix}running_var", norms.var[edge]


def _edges(prefix: str, supernet: DartsSupernet, cell: SearchCell) -> Iterator[tuple[str, Tensor]]:
    seen = [0] * len(cell.mixes)
    for index, edge in enumerate(supernet.space.edges):
        mix = cell.mixes[edge.source]
        assert isinstance(mix, SourceMix)
        position = seen[edge.source]
        seen[edge.source] += 1
        for column, name in enumerate(supernet.space.operations):
            yield from _operation(f"{prefix}{index}._ops.{column}.", mix, name, position)


def _operation(prefix: str, mix: SourceMix, name: str, edge: int) -> Iterator[tuple[str, Tensor]]:
    stages: list[nn.Module] = []
    if name in mix.pools:
        norms = mix.pools[name]
        assert isinstance(norms, Norms)
        yield from _norm(f"{prefix}1.", norms, 0)
    elif name == SKIP and mix.halves is not None:
        yield from _reduction_or_conv(prefix, mix.halves[edge], mix.skip_norms, edge)
    elif name in mix.separable:
        stages += mix.separable[name].children()
    elif name in mix.dilated:
        stages += [mix.dilated[name]]
    for number, stage in enumerate(stages):
        assert isinstance(stage, Stage)
        yield f"{prefix}op.{4 * number + 1}.weight", stage.depthwise[edge]
        yield f"{prefix}op.{4 * number + 2}.weight", stage.pointwise[edge][:, :, None, None]
        yield from _norm(f"{prefix}op.{4 * number + 3}.", stage.norms, edge)
