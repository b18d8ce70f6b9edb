"""precision=int8 of ``onnxruntime-cpu``: what runs, what is computed, and that it is kept apart."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from latkit.backends import BACKENDS, Backend
from latkit.backends.onnxruntime_int8 import int8_network
from latkit.backends.onnxruntime_session import CPU, check_int8, session_options, start_session
from latkit.core.errors import BackendError
from latkit.networks.inputs import Array
from latkit.networks.onnx_model import INPUT
from latkit.spaces import get_space, parse_setting
from latkit.spaces.build import random_input, random_network, random_onnx
from latkit.spaces.darts.zoo import ZOO
from tests.support.commands import MICRO_TEXT, RunLatkit, ok, refused

pytest.importorskip("onnxruntime")
INT8 = f"{MICRO_TEXT},precision=int8"


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with BACKENDS.get("onnxruntime-cpu")() as opened:
        yield opened


@pytest.mark.parametrize("text", ["imagenet", "cifar,cells=8,batch=2", "nasbench201", "fbnet"])
def test_logits_of_whole_networks(backend: Backend, text: str) -> None:
    """By the cosine between them and PyTorch's in fp32: 0.99 is asked, 0.999 is common."""
    setting = parse_setting(f"{text},memory_format=nchw,precision=int8")
    space = get_space(setting.space)
    for row in space.unrank(space.sample(2, 5)):
        architecture = space.architecture(row, setting.network)
        with torch.inference_mode():
            wanted = random_network(architecture, setting, 1)(random_input(setting, 1)).numpy()
        with backend.compile(architecture, setting, 1) as runner:
            logits = runner.logits()
        cosine = (logits * wanted).sum() / np.linalg.norm(logits) / np.linalg.norm(wanted)
        assert cosine >= 0.99, str(architecture)


@pytest.mark.parametrize(
    "text",
    [
        "imagenet,cells=4,channels=16,resolution=64,classes=10",
        "cifar,cells=4,batch=1",
        "nasbench201,cells=3",
        "fbnet-cpu",
    ],
)
def test_the_kernels_are_those_of_onnxruntimes_own_tool(text: str, tmp_path: Path) -> None:
    """Of ``quantize_static``, with a scale a channel: as many of each operator, once optimised.

    Where a batch norm is not folded, as at the end of NAS-Bench-201's networks, the tool quantises
    its parameters too, which are then read through nodes of their own.
    """
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, images: Array) -> None:
            self._images = iter([{INPUT: images}])

        def get_next(self) -> dict[str, Array] | None:
            return next(self._images, None)

    def kernels(content: bytes, weights: dict[str, Array]) -> Counter[str]:
        options = session_options(weights, threads=1, profile=None)
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        start_session(content, options, CPU, {})
        graph = onnx.load(tmp_path / "optimized.onnx").graph
        return Counter(node.op_type for node in graph.node)

    setting = parse_setting(f"{text},memory_format=nchw")
    space = get_space(setting.space)
    row = space.unrank(space.sample(1, 8))[0]
    architecture = space.architecture(row, setting.network)
    random_onnx(architecture, setting, 0, merged=True).write(tmp_path / "fp32.onnx")
    quantization.quantize_static(
        tmp_path / "fp32.onnx", tmp_path / "int8.onnx", Images(random_input(setting, 0).numpy()),
        quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    theirs = kernels((tmp_path / "int8.onnx").read_bytes(), {})
    network = int8_network(architecture, setting.replace(precision="int8"), 0)
    ours = kernels(network.content, network.weights)
    assert ours["QLinearConv"] > 10
    assert ours["Conv"] == 0
    theirs["DequantizeLinear"] -= 2 * theirs["BatchNormalization"]
    assert ours == theirs


def test_what_runs_in_fp32_is_not_called_int8(backend: Backend) -> None:
    setting = parse_setting(f"{MICRO_TEXT},memory_format=nchw")
    with (
        backend.compile(ZOO["darts_v2"], setting) as runner,
        pytest.raises(BackendError, match=r"(\d+) of \1 convolutions"),
    ):
        check_int8(runner)  # type: ignore[arg-type]
    with backend.compile(ZOO["darts_v2"], setting.replace(precision="int8")) as runner:
        check_int8(runner)  # type: ignore[arg-type]


def test_datasets_of_int8_are_others(latkit: RunLatkit, tmp_path: Path) -> None:
    """One of fp32 is not continued by int8, nor merged with it."""
    common = ("--backend", "onnxruntime-cpu", "--device", "here", "--n", "6", "--protocol", "fast")
    folders = {}
    for precision in ("fp32", "int8"):
        folders[precision] = tmp_path / precision
        made = ok(
            latkit, "profile", *common, "--setting", f"{MICRO_TEXT},precision={precision}",
            "--out", folders[precision],
        )  # fmt: skip
        assert made["architectures"] == 6
    copy = shutil.copytree(folders["fp32"], tmp_path / "copy")
    assert "precision" in refused(
        latkit, "profile", *common, "--setting", INT8, "--out", copy, "--n", "7"
    )
    merged = tmp_path / "merged"
    assert "precision" in refused(
        latkit, "dataset", "merge", folders["fp32"], folders["int8"], "--out", merged
    )
    compared = ok(latkit, "dataset", "compare", folders["fp32"], folders["int8"])
    assert any("precision" in line for line in compared["differences"]["target"])


@pytest.mark.parametrize("backend_name", ["torch-cpu", "openvino-cpu", "litert-cpu"])
def test_other_runtimes_refuse_it(latkit: RunLatkit, backend_name: str, tmp_path: Path) -> None:
    if not BACKENDS.get(backend_name).probe().usable:
        pytest.skip(f"{backend_name} is not usable here")
    line = refused(
        latkit, "profile", "--backend", backend_name, "--setting", INT8, "--n", "2",
        "--out", tmp_path / "d",
    )  # fmt: skip
    assert "int8" in line
