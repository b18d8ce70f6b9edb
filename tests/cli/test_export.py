"""``latkit export``: a file whose logits are PyTorch's, or one line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn

from latkit.networks import ZOO
from latkit.networks.architecture import get_architecture
from latkit.networks.build import build_network
from latkit.networks.network import Network
from latkit.networks.setting import parse_setting
from tests.conftest import MICRO_TEXT, RunLatkit
from tests.networks.test_onnx_model import trained

SETTING = parse_setting(MICRO_TEXT)
EXPORT = ("export", "darts_v2", "--setting", MICRO_TEXT, "--out", "net.onnx")


@pytest.mark.parametrize("dynamic", [False, True])
def test_trained_weights(latkit: RunLatkit, dynamic: bool) -> None:
    network = trained(SETTING)
    safetensors.torch.save_file(network.state_dict(), "trained.safetensors")
    done = latkit(
        *EXPORT, "--weights", "trained.safetensors", "--json",
        *(["--dynamic-batch"] if dynamic else []),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["verified_images"] == 32
    assert result["largest_relative_error"] < 1e-5
    onnx.checker.check_model(onnx.load("net.onnx"), full_check=True)
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    images = torch.randn(32, 3, 8, 8)
    with torch.inference_mode():
        wanted = network(images).numpy()
    size = 32 if dynamic else 1
    got = np.concatenate(
        [session.run(None, {"images": images[i : i + size].numpy()})[0] for i in range(0, 32, size)]
    )
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_half_precision(latkit: RunLatkit) -> None:
    sizes = []
    for precision in ("fp32", "fp16"):
        out = f"{precision}.onnx"
        setting = f"tiny,precision={precision},channels=32"
        done = latkit("export", "darts_v2", "--setting", setting, "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        sizes.append(json.loads(done.stdout)["bytes"])
    assert sizes[1] < 0.6 * sizes[0]
    types = {tensor.data_type for tensor in onnx.load("fp16.onnx").graph.initializer}
    assert types == {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    done = latkit("export", "darts_v2", "--setting", "tiny,precision=bf16", "--out", "b.onnx")
    assert done.returncode == 2
    assert "cannot be exported in bf16" in done.stderr


def test_without_tensorrt(latkit: RunLatkit) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    done = latkit(*EXPORT, "--to", "tensorrt")
    assert done.returncode == 1
    assert "tensorrt is not installed" in done.stderr
    assert not Path("net.onnx").exists()


def test_random_weights_are_said_to_be(latkit: RunLatkit) -> None:
    done = latkit(*EXPORT)
    assert done.returncode == 0, done.stderr
    assert "the weights are random" in done.stderr
    done = latkit(*EXPORT)
    assert done.returncode == 2
    assert "net.onnx exists" in done.stderr


def test_a_search_result_and_a_genotype_text(latkit: RunLatkit) -> None:
    text = str(ZOO["gdas"])
    Path("result.json").write_text(json.dumps({"genotype": text}))
    Path("cell.txt").write_text(text + "\n")
    for number, given in enumerate((text, "result.json", "cell.txt")):
        out = f"{number}.onnx"
        done = latkit("export", given, "--setting", MICRO_TEXT, "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["genotype"] == text
    assert Path("0.onnx").read_bytes() == Path("1.onnx").read_bytes()


def test_a_cell_of_nasbench201(latkit: RunLatkit) -> None:
    text = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    setting = parse_setting("nasbench201,cells=3")
    network = build_network(get_architecture(text, setting), setting)
    safetensors.torch.save_file(network.state_dict(), "trained.safetensors")
    for more in ((), ("--weights", "trained.safetensors", "--dynamic-batch")):
        out = f"{len(more)}.onnx"
        done = latkit(
            "export", text, "--setting", "nasbench201,cells=3", "--out", out, "--json", *more
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["genotype"] == text
        assert result["params"] == sum(p.numel() for p in network.parameters())
        assert result["largest_relative_error"] < 1e-5
        onnx.checker.check_model(onnx.load(out), full_check=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("export", "darts_v9"), "did you mean darts_v"),
        (("export", "nothing.json"), "Cannot read nothing.json"),
        (("export", "odd.json"), "odd.json has no genotype"),
        (("export", "darts_v2", "--weights", "nothing.safetensors"), "cannot read the weights"),
        (("export", "darts_v2", "--weights", "odd.json"), "cannot read the weights"),
        (("export", "darts_v2", "--weights", "gdas.safetensors"), "are of another network"),
        (("export", "darts_v2", "--weights", "darts_v2.safetensors"), "differs from PyTorch"),
        (("export", "darts_v2", "--to", "tflite"), "'tflite' is not"),
        (("export", "|none~0|+|none~0|none~1|"), "name a --setting of the space that it is of"),
        (("export", "darts_v2", "--setting", "nasbench201"), "takes no architecture of darts"),
    ],
)
def test_wrong_use_is_one_line(latkit: RunLatkit, change: tuple[str, ...], says: str) -> None:
    Path("odd.json").write_text("{}")
    for name, bias in (("gdas", 0.0), ("darts_v2", float("nan"))):
        network = Network(ZOO[name], SETTING)
        nn.init.constant_(network.classifier.bias, bias)  # type: ignore[arg-type]
        safetensors.torch.save_file(network.state_dict(), f"{name}.safetensors")
    setting = () if "--setting" in change else ("--setting", MICRO_TEXT)
    done = latkit(*change, *setting, "--out", "net.onnx")
    assert done.returncode != 0
    assert done.stdout == ""
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not Path("net.onnx").exists()
