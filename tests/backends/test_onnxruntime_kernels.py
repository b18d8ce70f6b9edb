"""What ONNX Runtime is given for less is what it makes of the plain graph: the same kernels."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import onnx
import pytest

from latkit.backends.onnxruntime_session import CPU, session_options, start_session
from latkit.networks.onnx_model import OUTPUT, OnnxNetwork
from latkit.spaces import get_space, parse_setting
from latkit.spaces.build import random_onnx


def optimized(network: OnnxNetwork, path: Path) -> onnx.ModelProto:
    """The graph that a session of :mod:`latkit.backends.onnxruntime` runs, with its weights."""
    options = session_options(network.weights, threads=1, profile=None)
    options.optimized_model_filepath = str(path)
    start_session(network.content, options, CPU, {})
    return onnx.load(path)


def kernels(graph: onnx.GraphProto) -> tuple[Counter[bytes], bytes]:
    """Each node as a digest of its operator, its attributes and all that it is computed from, bits
    of weights among them; and that of the output. Names do not count."""
    digests = {value.name: value.name.encode() for value in graph.input}
    for weight in graph.initializer:
        facts = f"{weight.data_type} {list(weight.dims)}".encode()
        content = onnx.numpy_helper.to_array(weight).tobytes()
        digests[weight.name] = hashlib.sha256(facts + content).digest()
    found: Counter[bytes] = Counter()
    for node in graph.node:
        attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        inputs = [digests[name] if name else b"" for name in node.input]
        what = (node.domain, node.op_type, attributes, inputs)
        digest = hashlib.sha256(repr(what).encode()).digest()
        found[digest] += 1
        for place, name in enumerate(node.output):
            digests[name] = digest + bytes([place])
    return found, digests[OUTPUT]


@pytest.mark.parametrize("text", ["imagenet", "cifar", "nasbench201", "fbnet"])
def test_merged_graphs_have_the_kernels_of_plain_ones(text: str, tmp_path: Path) -> None:
    """Of whole networks: what is fused depends on their widths.

    The order of nodes of which none needs another is ONNX Runtime's and may be another.
    """
    setting = parse_setting(f"{text},memory_format=nchw")
    space = get_space(setting.space)
    merging = False
    for row in space.unrank(space.sample(6, 11)):
        architecture = space.architecture(row, setting.network)
        plain, merged = (random_onnx(architecture, setting, 0, merged) for merged in (False, True))
        merging |= len(merged.model.graph.node) < len(plain.model.graph.node)
        graphs = [optimized(n, tmp_path / "optimized.onnx").graph for n in (plain, merged)]
        assert kernels(graphs[0]) == kernels(graphs[1])
    assert merging or text == "fbnet"  # where no two nodes compute the same
