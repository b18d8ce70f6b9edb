"""ncnn's networks in a bundle: small, and bit for bit those of ``latkit profile``."""

from __future__ import annotations

import numpy as np
import pytest

from latkit.backends import BACKENDS
from latkit.backends.ncnn import NcnnCpuBackend
from latkit.board import ncnn as board_ncnn
from latkit.board.ncnn import LAYERS, TENSORS, Runtime, tensors_from_json
from latkit.core.errors import BackendError, InputError
from latkit.networks.ncnn import to_ncnn
from latkit.networks.pool import uniform_pool
from latkit.spaces import Setting, get_space, parse_setting
from latkit.spaces.build import random_onnx
from latkit.spaces.darts.zoo import ZOO
from latkit.tasks import bundle_ncnn
from latkit.tasks.bundle import BundleRequest, make_bundle
from latkit.tasks.bundle_ncnn import NcnnFormat
from tests.board.test_onnx import SETTINGS
from tests.support.commands import MICRO_TEXT

pytest.importorskip("ncnn", reason="ncnn is not installed")


@pytest.mark.parametrize("space", SETTINGS)
def test_a_board_makes_the_same_network(space: str) -> None:
    setting, structure = parse_setting(SETTINGS[space]), get_space(space)
    row = structure.unrank(structure.sample(1, 3))[0]
    architecture = structure.architecture(row, setting.network)
    files = NcnnFormat(0).files(architecture, setting)
    assert sum(map(len, files.values())) < 60_000
    wanted = random_onnx(architecture, setting, 0)
    written = to_ncnn(wanted)
    assert files[LAYERS].decode() == written.layers
    shape, drawn = tensors_from_json(files[TENSORS])
    assert shape == (1, 3, setting.resolution, setting.resolution)
    pool = uniform_pool(0)
    for name, weight in zip(written.weights, drawn, strict=True):
        assert (weight is None) == (not name)
        if weight is not None:
            assert weight.draw(pool).tobytes() == wanted.weights[name].tobytes()
    with Runtime(1, 0).load(files.__getitem__) as there, NcnnCpuBackend() as home:
        with home.compile(architecture, setting) as here:
            assert np.array_equal(there.logits(), here.logits())
        assert there.clock == here.clock == home.clock


def test_the_facts_are_those_of_the_backend() -> None:
    with NcnnCpuBackend() as backend:
        assert Runtime(1, 0).facts() == backend.fingerprint()


def test_threads_that_do_not_run_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_ncnn, "parallel_width", lambda threads: 1)
    with pytest.raises(BackendError, match="runs on 1 of the 2 threads requested"):
        Runtime(2, 0)


def test_a_network_that_ncnn_does_not_take_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    files = NcnnFormat(0).files(ZOO["darts_v2"], parse_setting(SETTINGS["darts"]))
    files[LAYERS] = files[LAYERS].replace(b"Pooling", b"Unheard")
    with pytest.raises(BackendError, match="ncnn cannot build a network"):
        Runtime(1, 0).load(files.__getitem__)


def test_a_weight_that_does_not_follow_from_the_seed(
    micro: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*arguments: object) -> object:
        network = random_onnx(*arguments)  # type: ignore[arg-type]
        network.drawn.popitem()
        return network

    monkeypatch.setattr(bundle_ncnn, "random_onnx", changed)
    with pytest.raises(InputError, match="does not follow from the seed"):
        NcnnFormat(0).files(ZOO["darts_v2"], micro)


def test_a_batch_is_refused_before_anything_is_written(tmp_path: object) -> None:
    request = BundleRequest(f"{tmp_path}/b.pyz", setting=f"{MICRO_TEXT},batch=2", to="ncnn")  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="one image at a time"):
        make_bundle(request)


def test_no_network_of_the_format_is_offered_in_fp16() -> None:
    assert BACKENDS.get(NcnnFormat.backend).precisions == ("fp32",)
