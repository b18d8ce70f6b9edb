"""From an architecture and a setting to its network, whatever the space."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from latkit.networks.inputs import TensorSpec, random_arrays
from latkit.networks.make import Make, construct
from latkit.networks.onnx_model import Array, OnnxNetwork, build_onnx
from latkit.networks.onnx_parts import OnnxParts
from latkit.networks.quantized import quantized
from latkit.networks.weights import RandomParts, random_pool
from latkit.spaces.architecture import check_space
from latkit.spaces.base import Architecture
from latkit.spaces.registry import get_space
from latkit.spaces.setting import Setting

# Images of a batch of which the ranges of activations are taken: their activations are all kept.
CALIBRATION_IMAGES = 4


def build_network(
    architecture: Architecture, setting: Setting, make: Make = construct
) -> nn.Module:
    """The network of an architecture, in training mode.

    Args:
        architecture: of the setting's space.
        setting: whose network is built.
        make: how parts are made; the default constructs them.

    Raises:
        InputError: the setting is for architectures of another space, or latkit builds no networks
            of the space.
    """
    check_space(architecture, setting)
    return get_space(setting.space).build(architecture, setting.network, make)


def random_network(architecture: Architecture, setting: Setting, seed: int) -> nn.Module:
    """The network in eval mode, in the setting's memory format, on the CPU, with random weights.

    The network is for running only: its parts share their tables of hooks with other networks. Only
    where skips of a NAS-Bench-201 cell add up activations grow, by a factor of up to 4 a cell: far
    from the limits of fp32, but one network in ten leaves the range of fp16 at full depth.

    Raises:
        InputError: see :func:`build_network`.
    """
    parts = RandomParts(seed, _memory_format(setting))
    network = build_network(architecture, setting, make=parts)
    _stop_training(network)
    return network


def random_onnx(
    architecture: Architecture, setting: Setting, seed: int, merged: bool = False
) -> OnnxNetwork:
    """:func:`random_network` as an ONNX model of the setting's precision, made for far less.

    Args:
        architecture, setting, seed: as there.
        merged: see :func:`latkit.networks.onnx_model.build_onnx`.

    Raises:
        InputError: see :func:`build_network` and :func:`latkit.networks.onnx_model.build_onnx`.
    """
    of_parts = _OF_PARTS.get(setting)
    if of_parts:
        return _onnx_of_parts(architecture, setting, seed, merged)
    whole = _onnx(random_network(architecture, setting, seed), setting, merged)
    if of_parts is None:
        _OF_PARTS[setting] = _is_of_parts(whole, architecture, setting, seed, merged)
    pool = random_pool(seed).numpy()
    drawn = {
        name: weight
        for name, weight in whole.drawn.items()
        if np.array_equal(weight.draw(pool).astype(whole.weights[name].dtype), whole.weights[name])
    }
    return replace(whole, drawn=drawn)


def random_int8(
    architecture: Architecture,
    setting: Setting,
    seed: int,
    run: Callable[[OnnxNetwork, Array], Sequence[Array]],
) -> OnnxNetwork:
    """:func:`random_onnx` in int8, calibrated on the first images of :func:`random_input`.

    Args:
        architecture, setting, seed: as there.
        run: see :func:`latkit.networks.quantized.quantized`.

    Raises:
        InputError: see :func:`random_onnx`.
    """
    setting = setting.replace(precision="fp32")
    network = random_onnx(architecture, setting, seed, merged=True)
    images = random_input(setting, seed).numpy()
    shapes = list(images.shape), [setting.batch, setting.classes]
    return quantized(network, shapes, images[:CALIBRATION_IMAGES], run, random_pool(seed).numpy())


# Whether a setting's networks can be put together of recorded parts. It is judged by the first of
# them: a space of others may change parts after they were made, or look into them.
_OF_PARTS: dict[Setting, bool] = {}


def _is_of_parts(
    whole: OnnxNetwork, architecture: Architecture, setting: Setting, seed: int, merged: bool
) -> bool:
    try:
        made = _onnx_of_parts(architecture, setting, seed, merged)
    except Exception:  # of a space's own code, which gets parts that it does not expect
        return False
    return made.content == whole.content and all(
        np.array_equal(made.weights[name], weight) for name, weight in whole.weights.items()
    )


def _onnx_of_parts(
    architecture: Architecture, setting: Setting, seed: int, merged: bool
) -> OnnxNetwork:
    parts = OnnxParts(seed, setting.precision)
    return _onnx(build_network(architecture, setting, make=parts), setting, merged)


def _onnx(network: nn.Module, setting: Setting, merged: bool) -> OnnxNetwork:
    size = setting.batch, setting.resolution, setting.classes
    return build_onnx(network, *size, precision=setting.precision, merged=merged)


def random_input(setting: Setting, seed: int) -> Tensor:
    """A batch of standard-normal images: ``B x 3 x R x R`` in the setting's memory format."""
    # In memory of their own: networks that ran on the same would find it in their caches.
    return _random_images(input_spec(setting), seed).clone(memory_format=_memory_format(setting))


@functools.lru_cache(maxsize=4)
def _random_images(spec: TensorSpec, seed: int) -> Tensor:
    (images,) = random_arrays([spec], seed).values()
    return torch.from_numpy(images)


def input_spec(setting: Setting) -> TensorSpec:
    """The input of a setting's networks."""
    return TensorSpec("images", (setting.batch, 3, setting.resolution, setting.resolution))


def _stop_training(module: nn.Module) -> None:
    """As ``eval()``, which would visit all parts: those that are copied are in eval mode."""
    if module.training:
        module.training = False
        for child in module._modules.values():
            if child is not None:
                _stop_training(child)


def _memory_format(setting: Setting) -> torch.memory_format:
    if setting.memory_format == "channels_last":
        return torch.channels_last
    return torch.contiguous_format
