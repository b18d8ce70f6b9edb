"""``latkit export``: a file whose logits are PyTorch's, or one line."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn

from latkit.backends.executorch_program import Program
from latkit.networks import onnx_model
from latkit.spaces import get_space, parse_setting
from latkit.spaces.architecture import get_architecture
from latkit.spaces.build import build_network
from latkit.spaces.darts.network import Network
from latkit.spaces.darts.zoo import ZOO
from tests.networks.test_onnx_model import trained
from tests.support.commands import MICRO_TEXT, RunLatkit

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


def test_a_program_of_executorch(latkit: RunLatkit) -> None:
    network = trained(SETTING)
    safetensors.torch.save_file(network.state_dict(), "trained.safetensors")
    to_pte = (*EXPORT[:-1], "net.pte", "--to", "pte")
    done = latkit(*to_pte, "--weights", "trained.safetensors", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    content = Path("net.pte").read_bytes()
    assert content[4:8] == b"ET12"
    assert (result["format"], result["bytes"]) == ("pte", len(content))
    if importlib.util.find_spec("executorch") is None:
        assert result["verified_images"] is None
        assert "pip install 'latkit[executorch]'" in done.stderr
        return
    assert result["verified_images"] == 32
    assert result["largest_relative_error"] < 1e-5
    images = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        wanted = network(images).numpy()
    assert np.abs(Program(content)(images.numpy()) - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--dynamic-batch",), "a program of ExecuTorch is built for one number of images"),
        (("--setting", "tiny,precision=fp16"), "cannot be exported in fp16 to pte"),
    ],
)
def test_what_a_program_cannot_be(latkit: RunLatkit, options: tuple[str, ...], says: str) -> None:
    done = latkit("export", "darts_v2", "--to", "pte", "--out", "net.pte", *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert not Path("net.pte").exists()


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
        network = Network(ZOO[name], SETTING.network)
        nn.init.constant_(network.classifier.bias, bias)  # type: ignore[arg-type]
        safetensors.torch.save_file(network.state_dict(), f"{name}.safetensors")
    setting = () if "--setting" in change else ("--setting", MICRO_TEXT)
    done = latkit(*change, *setting, "--out", "net.onnx")
    assert done.returncode != 0
    assert done.stdout == ""
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not Path("net.onnx").exists()


def test_weights_that_one_message_cannot_hold(
    latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is protobuf's 2 GiB; a small one makes the same two files."""
    done = latkit(*EXPORT[:-1], "whole.onnx", "--json")
    assert json.loads(done.stdout)["external_data"] is None
    monkeypatch.setattr(onnx_model, "MESSAGE_LIMIT_BYTES", 10_000)
    done = latkit(*EXPORT, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["external_data"] == "net.onnx.data"
    assert result["largest_relative_error"] < 1e-5
    sizes = [Path(name).stat().st_size for name in ("net.onnx", "net.onnx.data")]
    assert result["bytes"] == sum(sizes)
    assert sizes[1] > 10_000
    onnx.checker.check_model("net.onnx", full_check=True)
    images = {"images": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    logits = [
        onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"]).run(None, images)[0]
        for name in ("whole.onnx", "net.onnx")
    ]
    assert (logits[0] == logits[1]).all()
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == [
        "net.onnx", "net.onnx.data", "whole.onnx",
    ]  # fmt: skip
    Path("net.onnx").unlink()
    done = latkit(*EXPORT)
    assert done.returncode == 2
    assert "net.onnx.data exists" in done.stderr


@pytest.mark.parametrize("dynamic", [(), ("--dynamic-batch",)])
def test_a_cell_that_lets_nothing_through(latkit: RunLatkit, dynamic: tuple[str, ...]) -> None:
    text = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    done = latkit(
        "export", text, "--setting", "nasbench201,cells=3,resolution=8", "--out", "net.onnx",
        "--json", *dynamic,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["largest_relative_error"] == 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("only", range(6))
def test_one_edge_of_a_cell(latkit: RunLatkit, only: int, precision: str) -> None:
    """Most such cells let nothing through, and their logits are those of the residual blocks."""
    space = get_space("nasbench201")
    text = space.format([1 if edge == only else 0 for edge in range(6)])
    setting = f"nasbench201,cells=3,resolution=8,precision={precision}"
    done = latkit("export", text, "--setting", setting, "--out", "net.onnx", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["largest_relative_error"] < 1e-2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("cells.", "cells._orig_mod."),
        lambda name: f"_fsdp_wrapped_module.{name}",
    ],
)
def test_weights_of_a_wrapped_network(latkit: RunLatkit, wrap: Callable[[str], str]) -> None:
    state = trained(SETTING).state_dict()
    safetensors.torch.save_file(state, "plain.safetensors")
    wrapped = {wrap(name): tensor for name, tensor in state.items()}
    wrapped["n_averaged"] = torch.tensor(3)
    safetensors.torch.save_file(wrapped, "wrapped.safetensors")
    for name in ("plain", "wrapped"):
        done = latkit(*EXPORT[:-1], f"{name}.onnx", "--weights", f"{name}.safetensors")
        assert done.returncode == 0, done.stderr
    assert Path("plain.onnx").read_bytes() == Path("wrapped.onnx").read_bytes()
    # Two networks in one file are not taken for one.
    twins = {name: tensor.clone() for name, tensor in state.items()}
    safetensors.torch.save_file({**wrapped, **twins}, "both.safetensors")
    done = latkit(*EXPORT, "--weights", "both.safetensors")
    assert done.returncode == 2
    assert "twice" in done.stderr


def test_names_from_pytorchs_own_wrappers(latkit: RunLatkit) -> None:
    network = trained(SETTING)
    averaged = torch.optim.swa_utils.AveragedModel(nn.DataParallel(network))
    state = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
    assert "module.module.stem0.0.weight" in state or "module.module.classifier.weight" in state
    safetensors.torch.save_file(state, "averaged.safetensors")
    done = latkit(*EXPORT, "--weights", "averaged.safetensors")
    assert done.returncode == 0, done.stderr


def test_what_is_no_derived_cell_is_not_exported(latkit: RunLatkit) -> None:
    """Fourteen pairs made a network of seven nodes, three of which nothing read."""
    pairs = [("sep_conv_3x3", source) for node in range(2, 6) for source in range(node)]
    for count in (14, 10):
        text = str(ZOO["darts_v2"]).replace(str(list(ZOO["darts_v2"].normal)), str(pairs[:count]))
        Path("cell.txt").write_text(text)
        for given in (text, "cell.txt"):
            done = latkit("export", given, "--setting", MICRO_TEXT, "--out", "net.onnx")
            assert done.returncode == 2
            assert "node 6 of the normal cell" in done.stderr.replace("\n", " ")
            assert not Path("net.onnx").exists()


@pytest.mark.parametrize("command", ["export", "predict"])
def test_help_names_genotypes_that_exist(latkit: RunLatkit, command: str) -> None:
    text = latkit(command, "--help").stdout
    named = re.findall(r"\b[a-z]+_darts\w*|\bdarts_\w+|\bgdas\b", text)
    assert "darts_v2" in named
    assert set(named) <= set(ZOO)


def test_what_a_killed_export_left_is_removed(latkit: RunLatkit, tmp_path: Path) -> None:
    (tmp_path / ".n.onnx.making").mkdir()
    (tmp_path / ".n.onnx.making" / "n.onnx").write_bytes(b"half")
    done = latkit("export", "darts_v2", "--setting", MICRO_TEXT, "--out", "n.onnx")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("*n.onnx*")) == ["n.onnx"]
    assert not (tmp_path / ".n.onnx.making").exists()
