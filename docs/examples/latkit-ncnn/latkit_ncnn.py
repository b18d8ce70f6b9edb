"""ncnn, an inference engine made for phones, as a backend of latkit: a worked example.

ncnn reads a text of layers and a file of weights. Both are made here from latkit's ONNX graph,
whose dozen operators have a counterpart each. One thing is ncnn's own: a blob feeds one layer, so
whatever is used more than once goes through a Split.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from latkit.backends import Backend, Clock, CpuRunner, Probe, Runner, cpu_clock
from latkit.core.device import Facts, cpu_name
from latkit.core.errors import BackendError
from latkit.networks.onnx_model import INPUT, OUTPUT, OnnxNetwork, build_onnx
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import random_input, random_network

MAGIC = 7767517
# What stands before a layer's weights in the file: they are plain fp32.
FP32 = struct.pack("<I", 0)


def to_ncnn(network: OnnxNetwork) -> tuple[str, bytes]:
    """An ONNX network as ncnn's text of layers and bytes of weights."""
    nodes = network.model.graph.node
    weights = network.weights
    initializers = {i.name: i for i in network.model.graph.initializer}
    uses = Counter(x for node in nodes for x in node.input if x not in initializers)
    lines = [f"Input {INPUT} 0 1 {INPUT}"]
    blobs = 1
    data: list[bytes] = []
    taken: Counter[str] = Counter()

    def split(blob: str) -> None:
        nonlocal blobs
        if uses[blob] > 1:
            outputs = [f"{blob}_{k}" for k in range(uses[blob])]
            lines.append(f"Split split_{blob} 1 {len(outputs)} {blob} {' '.join(outputs)}")
            blobs += len(outputs)

    def take(blob: str) -> str:
        if uses[blob] == 1:
            return blob
        taken[blob] += 1
        return f"{blob}_{taken[blob] - 1}"

    split(INPUT)
    for number, node in enumerate(nodes):
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        parameters: dict[int, int | float] = {}
        arrays = [weights[x] for x in node.input if x in weights]
        kind = node.op_type
        if kind == "Conv":
            weight = arrays[0]
            group = attributes["group"]
            kind = "Convolution" if group == 1 else "ConvolutionDepthWise"
            height, width = attributes["kernel_shape"]
            parameters = {
                0: weight.shape[0], 1: width, 11: height,
                2: attributes["dilations"][1], 12: attributes["dilations"][0],
                3: attributes["strides"][1], 13: attributes["strides"][0],
                4: attributes["pads"][1], 14: attributes["pads"][0],
                5: int(len(arrays) == 2), 6: weight.size,
            }  # fmt: skip
            if group != 1:
                parameters[7] = group
            data += [FP32, *(a.tobytes() for a in arrays)]
        elif kind == "Gemm":
            kind = "InnerProduct"
            parameters = {0: arrays[0].shape[0], 1: 1, 2: arrays[0].size}
            data += [FP32, *(a.tobytes() for a in arrays)]
        elif kind in ("MaxPool", "AveragePool"):
            parameters = {
                0: int(kind == "AveragePool"), 1: attributes["kernel_shape"][0],
                2: attributes["strides"][0], 3: attributes["pads"][0],
                5: 1, 6: 0,  # round sizes down; padding does not count in averages
            }  # fmt: skip
            kind = "Pooling"
        elif kind == "GlobalAveragePool":
            kind, parameters = "Pooling", {0: 1, 4: 1}
        elif kind == "Slice":  # drop the first row and column
            rest = -233  # ncnn's word for: up to the end
            kind, parameters = "Crop", {0: 1, 1: 1, 2: 0, 3: rest, 4: rest, 5: rest}
        elif kind == "BatchNormalization":
            scale, shift, mean, variance = arrays
            kind, parameters = "BatchNorm", {0: scale.size, 1: attributes["epsilon"]}
            data += [a.tobytes() for a in (scale, mean, variance, shift)]
        elif kind == "Mul":  # by a number
            factor = float(onnx.numpy_helper.to_array(initializers[node.input[1]]))
            kind, parameters = "BinaryOp", {0: 2, 1: 1, 2: factor}
        elif kind == "Reshape":  # begins or ends a shuffle of channels, one layer of ncnn
            shape = onnx.numpy_helper.to_array(initializers[node.input[1]])
            begins = len(shape) == 5
            kind, parameters = ("ShuffleChannel", {0: int(shape[1])}) if begins else ("Noop", {})
        else:
            kind = {
                "Relu": "ReLU", "Add": "BinaryOp", "Concat": "Concat", "Flatten": "Flatten",
                "Identity": "Noop", "Transpose": "Noop",
            }[kind]  # fmt: skip
        inputs = [take(x) for x in node.input if x not in initializers]
        (output,) = node.output
        words = [kind, f"n{number}", str(len(inputs)), "1", *inputs, output]
        lines.append(" ".join([*words, *(f"{key}={v}" for key, v in parameters.items())]))
        blobs += 1
        split(output)
    return "\n".join([str(MAGIC), f"{len(lines)} {blobs}", *lines]) + "\n", b"".join(data)


class NcnnRunner(CpuRunner):
    """A network with its input in place."""

    def __init__(self, net: Any, image: npt.NDArray[np.float32], clock: Clock) -> None:
        super().__init__(clock)
        self._net = net
        self._image = image
        self._input = _import().Mat(image)

    def _infer(self) -> Any:
        extractor = self._net.create_extractor()
        extractor.input(INPUT, self._input)
        status, out = extractor.extract(OUTPUT)
        del extractor  # it must not outlive the net, as it would in an error's traceback
        if status != 0:
            raise RuntimeError(f"ncnn ended with status {status}")
        return out

    def _bind(self) -> Callable[[], object]:
        return self._infer

    def _logits(self) -> npt.NDArray[np.float32]:
        return np.array(self._infer(), dtype=np.float32).reshape(1, -1)

    def _close(self) -> None:
        self._net = self._input = None


class NcnnCpuBackend(Backend):
    """``ncnn-cpu``: fp32, one image a run."""

    name = "ncnn-cpu"
    memory_formats = ("nchw",)

    @classmethod
    def probe(cls) -> Probe:
        if importlib.util.find_spec("ncnn") is None:
            return Probe("missing", "ncnn is not installed", "pip install ncnn")
        try:
            version = _import().__version__
        except Exception as error:  # a broken binary can raise anything
            reason = " ".join(str(error).split())[:200]
            return Probe("unusable", f"ncnn does not import: {reason}", "install it again")
        return Probe("ok", f"ncnn {version} on {cpu_name()}")

    @property
    def clock(self) -> Clock:
        return cpu_clock(self.threads)

    def fingerprint(self) -> Facts:
        return {"ncnn": _import().__version__, "threads": self.threads, "precision_active": "fp32"}

    def hardware_name(self) -> str:
        return cpu_name()

    def check_setting(self, setting: Setting) -> None:
        super().check_setting(setting)
        if setting.batch != 1:
            raise BackendError("ncnn runs one image at a time", "use a setting with batch=1")

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        network = build_onnx(
            random_network(architecture, setting, seed), 1, setting.resolution, setting.classes
        )
        layers, data = to_ncnn(network)
        net = _import().Net()
        net.opt.num_threads = self.threads
        # ncnn takes half precision by itself where the CPU has it.
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("net.param", "net.bin")]
            files[0].write_text(layers)
            files[1].write_bytes(data)
            if net.load_param(str(files[0])) or net.load_model(str(files[1])):
                raise RuntimeError("ncnn does not read the network")
        image = random_input(setting, seed).numpy()[0]
        return NcnnRunner(net, image, self.clock)

    def _enter(self) -> None:
        pass

    def _exit(self) -> None:
        pass


def _import() -> Any:
    return importlib.import_module("ncnn")
