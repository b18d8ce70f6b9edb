"""Networks in a bundle: small, and bit for bit those of ``latkit profile``."""

from __future__ import annotations

import numpy as np
import pytest

from latkit.backends import BACKENDS
from latkit.backends.onnxruntime_int8 import int8_network
from latkit.board.onnx import GRAPH, TENSORS, Runtime, tensors_from_json
from latkit.core.errors import InputError
from latkit.networks.onnx_model import build_onnx
from latkit.networks.pool import uniform_pool
from latkit.spaces import Setting, get_space, parse_setting
from latkit.spaces.build import random_network
from latkit.spaces.darts.network import Network
from latkit.spaces.darts.zoo import ZOO
from latkit.tasks.bundle_onnx import OnnxFormat
from tests.support.commands import MICRO_TEXT

SETTINGS = {
    "darts": f"{MICRO_TEXT},memory_format=nchw",
    "nasbench201": "nasbench201,cells=3,channels=4,resolution=8,memory_format=nchw",
    "fbnet": "fbnet,resolution=32,classes=10,memory_format=nchw",
}


@pytest.fixture(scope="module")
def onnx_format() -> OnnxFormat:
    return OnnxFormat(0)


@pytest.mark.parametrize("space", SETTINGS)
def test_a_board_makes_the_same_network_in_int8(space: str, onnx_format: OnnxFormat) -> None:
    """The scales that were found here are in the graph; the rest is drawn there."""
    setting, structure = parse_setting(f"{SETTINGS[space]},precision=int8"), get_space(space)
    row = structure.unrank(structure.sample(1, 3))[0]
    architecture = structure.architecture(row, setting.network)
    files = onnx_format.files(architecture, setting)
    assert sum(map(len, files.values())) < 150_000
    wanted = int8_network(architecture, setting, 0)
    assert files[GRAPH] == wanted.content
    _, drawn = tensors_from_json(files[TENSORS])
    pool = uniform_pool(0)
    assert list(drawn) == list(wanted.weights)
    assert {weight.dtype for weight in wanted.weights.values()} == {
        np.dtype(name) for name in ("int8", "int32", "float32")
    }
    for name, weight in wanted.weights.items():
        made = drawn[name].draw(pool)
        assert made.dtype == weight.dtype
        assert made.tobytes() == weight.tobytes()
    with (
        Runtime(1, 0).load(files.__getitem__) as there,
        BACKENDS.get("onnxruntime-cpu")() as home,
        home.compile(architecture, setting) as here,
    ):
        assert np.array_equal(there.logits(), here.logits())


@pytest.mark.parametrize("space", SETTINGS)
def test_a_board_makes_the_same_network(space: str, onnx_format: OnnxFormat) -> None:
    setting, structure = parse_setting(SETTINGS[space]), get_space(space)
    row = structure.unrank(structure.sample(1, 3))[0]
    architecture = structure.architecture(row, setting.network)
    files = onnx_format.files(architecture, setting)
    assert sum(map(len, files.values())) < 110_000
    network = random_network(architecture, setting, 0)
    size = setting.batch, setting.resolution, setting.classes
    wanted = build_onnx(network, *size, merged=True)
    assert files[GRAPH] == wanted.content
    _, drawn = tensors_from_json(files[TENSORS])
    pool = uniform_pool(0)
    assert list(drawn) == list(wanted.weights)
    for name, weight in wanted.weights.items():
        assert drawn[name].draw(pool).tobytes() == weight.tobytes()
    with Runtime(1, 0).load(files.__getitem__) as there, BACKENDS.get("onnxruntime-cpu")() as home:
        with home.compile(architecture, setting) as here:
            assert np.array_equal(there.logits(), here.logits())
        assert there.clock == here.clock == home.clock


def test_the_facts_are_those_of_the_backend() -> None:
    with BACKENDS.get("onnxruntime-cpu")() as backend:
        assert Runtime(1, 0).facts() == backend.fingerprint()


def test_a_weight_that_does_not_follow_from_the_seed(
    micro: Setting, onnx_format: OnnxFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that changes a weight after it was drawn, as a space of others may."""

    def changed(network: Network, *arguments: object, **named: object) -> None:
        made(network, *arguments, **named)
        network.classifier.weight.data.fill_(0.5)

    made = Network.__init__
    monkeypatch.setattr(Network, "__init__", changed)
    with pytest.raises(InputError):
        onnx_format.files(ZOO["darts_v2"], micro.replace(classes=7))


def test_no_network_of_the_format_is_offered_in_fp16(micro: Setting) -> None:
    assert BACKENDS.get(OnnxFormat.backend).precisions == ("fp32", "int8")
