"""ONNX models against PyTorch: every operation, both macros, trained batch norms."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from latkit.core.errors import InputError
from latkit.networks.onnx_model import INPUT, IR_VERSION, OPSET, OnnxNetwork, build_onnx
from latkit.spaces import RunConfig, Setting, get_space
from latkit.spaces.build import random_input, random_network
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.network import Network
from latkit.spaces.darts.zoo import ZOO

SPACE = get_space("darts")
SETTINGS = {
    "cifar": Setting(
        DartsConfig(macro="cifar", cells=5, channels=6, resolution=16, classes=10),
        RunConfig(batch=2),
    ),
    "imagenet": Setting(
        DartsConfig(macro="imagenet", cells=4, channels=8, resolution=64), RunConfig(batch=2)
    ),
}


def logits(network: OnnxNetwork, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        network.embedded().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {INPUT: images})[0])


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("macro", SETTINGS)
def test_fifty_architectures_compute_the_same(macro: str) -> None:
    setting = SETTINGS[macro]
    used = set()
    images = random_input(setting, 1)
    for seed, row in enumerate(SPACE.unrank(SPACE.sample(25, 7))):
        genotype = SPACE.genotype(row, ZOO["darts_v2"])
        used |= {name for name, _ in genotype.normal}
        network = random_network(genotype, setting, seed)
        model = build_onnx(network, setting.batch, setting.resolution, setting.classes)
        onnx.checker.check_model(model.embedded(), full_check=True)
        with torch.inference_mode():
            wanted = network(images).numpy()
        assert relative_error(logits(model, images.numpy()), wanted) < 1e-5
    assert used == set(SPACE.operations) - {"none"}


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_genotype_in_print(name: str) -> None:
    """The zoo has operations and concatenations that the space lacks."""
    setting = SETTINGS["cifar"]
    network = random_network(ZOO[name], setting, 0)
    images = random_input(setting, 1)
    with torch.inference_mode():
        wanted = network(images).numpy()
    got = logits(
        build_onnx(network, setting.batch, setting.resolution, setting.classes), images.numpy()
    )
    assert relative_error(got, wanted) < 1e-5


def trained(setting: Setting) -> Network:
    """A network whose batch norms have statistics and parameters of their own."""
    torch.manual_seed(0)
    network = Network(ZOO["darts_v2"], setting.network)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(5):
        out = network(torch.randn(8, 3, setting.resolution, setting.resolution) * 2 + 1)
        assert isinstance(out, torch.Tensor)
        optimizer.zero_grad()
        nn.functional.cross_entropy(out, torch.randint(setting.classes, (8,))).backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize("dynamic", [False, True])
def test_trained_weights_and_a_dynamic_batch(dynamic: bool) -> None:
    setting = SETTINGS["cifar"]
    network = trained(setting)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert any((m.running_mean.abs() > 0.1).any() for m in norms if m.running_mean is not None)
    model = build_onnx(network, 32, setting.resolution, setting.classes, dynamic)
    for size in (32, 1, 5) if dynamic else (32,):
        images = torch.randn(size, 3, setting.resolution, setting.resolution)
        with torch.inference_mode():
            wanted = network(images).numpy()
        assert relative_error(logits(model, images.numpy()), wanted) < 1e-5


@pytest.mark.parametrize("ratio", [0, 300, 3000])
def test_a_norm_folded_far_from_zero_is_as_exact_as_one_apart(ratio: float) -> None:
    """What the first cells' norms see has means of ``ratio`` standard deviations: the model is no
    further from double precision than PyTorch in single precision."""
    setting = SETTINGS["cifar"].replace(cells=3)
    network = trained(setting)
    nn.init.constant_(network.stem0[1].bias, ratio)  # type: ignore[index, arg-type]
    exact = copy.deepcopy(network).double().train()
    for module in exact.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    images = torch.randn(8, 3, setting.resolution, setting.resolution)
    with torch.no_grad():
        exact(images.double())
        network.load_state_dict(exact.state_dict())
        network.eval()
        wanted = copy.deepcopy(network).double()(images.double()).numpy()
        apart = relative_error(network(images).numpy(), wanted)
    folded = relative_error(
        logits(build_onnx(network, 8, setting.resolution, setting.classes), images.numpy()), wanted
    )
    assert folded <= 2 * apart + 1e-6


def test_the_form_of_the_model() -> None:
    setting = SETTINGS["imagenet"]
    network = random_network(ZOO["darts_v2"], setting, 0)
    model = build_onnx(network, 2, setting.resolution, setting.classes)
    assert model.model.ir_version == IR_VERSION
    assert [(o.domain, o.version) for o in model.model.opset_import] == [("", OPSET)]
    operators = {node.op_type for node in model.model.graph.node}
    assert "BatchNormalization" not in operators
    # Each weight has bytes of its own, one after the other.
    end = 0
    for initializer in model.model.graph.initializer:
        if initializer.name in model.weights:
            facts = {entry.key: entry.value for entry in initializer.external_data}
            assert int(facts["offset"]) == end
            assert int(facts["length"]) == model.weights[initializer.name].nbytes
            end += int(facts["length"])
    arrays = list(model.weights.values())
    starts = sorted(array.ctypes.data for array in arrays)
    assert len(set(starts)) == len(arrays)
    convolutions = sum(isinstance(m, nn.Conv2d) for m in network.modules())
    assert sum(node.op_type == "Conv" for node in model.model.graph.node) == convolutions
    shape = [d.dim_value for d in model.model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [2, 3, 64, 64]


def test_a_part_without_an_onnx_form_is_named() -> None:
    setting = SETTINGS["cifar"].replace(cells=3)
    network = random_network(ZOO["darts_v2"], setting, 0)
    network.stem0 = nn.Sequential(nn.Conv2d(3, 18, 3, padding=1), nn.GELU())
    with pytest.raises(InputError, match="no ONNX form of GELU"):
        build_onnx(network, 1, 16, 10)


def test_the_output_is_named_where_it_is_made() -> None:
    """A copy, which runtimes would first have to remove, is made of the input alone."""
    nodes = build_onnx(nn.Sequential(nn.ReLU(), nn.Flatten()), 1, 2, 12).model.graph.node
    assert [(node.op_type, *node.output) for node in nodes] == [
        ("Relu", "t0"),
        ("Flatten", "logits"),
    ]
    (copied,) = build_onnx(nn.Identity(), 1, 2, 12).model.graph.node
    assert (copied.op_type, *copied.input, *copied.output) == ("Identity", "images", "logits")


def test_merged_relus() -> None:
    """One for each tensor that has one, and the same logits; ONNX Runtime merges them anyway."""
    setting, genotype = SETTINGS["cifar"], ZOO["darts_v2"]
    network, images = random_network(genotype, setting, 0), random_input(setting, 0).numpy()
    size = setting.batch, setting.resolution, setting.classes
    plain, merged = build_onnx(network, *size), build_onnx(network, *size, merged=True)
    relus = [node.input[0] for node in merged.model.graph.node if node.op_type == "Relu"]
    assert len(relus) == len(set(relus))
    assert len(merged.model.graph.node) < len(plain.model.graph.node)
    assert np.array_equal(logits(merged, images), logits(plain, images))
