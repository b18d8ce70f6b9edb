"""Steps of a search as real CUDA graphs: they end where steps launched one by one end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.gpu_parts.captured import FUNCTIONS, TOLERANCE, difference
from benchmarks.gpu_parts.steps import SMALL
from latkit.backends.torch_cuda import TorchCudaBackend
from latkit.search.cuda_graphs import CudaGraphs
from latkit.search.data import load_data
from latkit.search.session import SearchConfig, run_search
from latkit.spaces import get_space
from tests.support.synthetic import made_lpm

_probe = TorchCudaBackend.probe()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not _probe.usable, reason=f"torch-cuda is {_probe.status}: {_probe.reason}"),
]


@pytest.mark.parametrize("name", SMALL)
def test_graphs_end_where_plain_steps_end(name: str) -> None:
    warnings: list[str] = []
    device = torch.device("cuda")
    graphs = CudaGraphs(device, warnings.append)
    errors = difference(SMALL[name], device, graphs)
    assert not warnings
    assert len(graphs.captured) == FUNCTIONS
    assert max(errors.values()) <= TOLERANCE


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_search_is_captured_without_a_warning(precision: str, tmp_path: Path) -> None:
    config = SearchConfig(
        cells=3, channels=4, batch=16, epochs=3, limit=160, precision=precision, warmup_epochs=1
    )
    lpm, data = made_lpm(tmp_path / "d").lpm, load_data("digits", 160, 0)
    warnings: list[str] = []
    outcome = run_search(
        config, get_space("darts"), lpm, "made", data, tmp_path / "s", "cuda",
        warn=warnings.append,
    )  # fmt: skip
    assert len(outcome.history) == 3
    assert not warnings
