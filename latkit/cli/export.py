"""``latkit export``"""

from __future__ import annotations

import functools
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import UserPath, json_option, note, print_json, print_table, warn
from latkit.core.errors import InputError, LatkitError, from_os_error

if TYPE_CHECKING:
    from torch import nn

    from latkit.spaces import Setting


Run = Callable[[Any], Any]  # images to logits, arrays both

VERIFIED_IMAGES = 32
# Of logits, relative to the largest; fp32 in another order of summation stays well below.
TOLERANCES = {"fp32": 1e-5, "fp16": 1e-2}
# What PyTorch's wrappers put into the names of a network's tensors, and what an average adds.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
AVERAGED_COUNT = "n_averaged"


@click.command(name="export")
@click.argument("architecture")
@click.option(
    "--to",
    type=click.Choice(["onnx", "tensorrt"]),
    default="onnx",
    show_default=True,
    help="onnx: a file for any runtime; tensorrt: an engine for this machine's GPU and the "
    "installed version of TensorRT.",
)
@click.option(
    "--out",
    type=UserPath(),
    required=True,
    help="New file, e.g. net.onnx or net.plan.",
)
@click.option(
    "--setting",
    "setting_text",
    default="imagenet",
    show_default=True,
    help="The network around the cells (see latkit profile --help); precision=fp16 halves the "
    "file.",
)
@click.option(
    "--weights",
    type=UserPath(),
    help="Trained weights: the network's state_dict as *.safetensors [default: random ones, fit "
    "for measuring only].",
)
@click.option("--dynamic-batch", is_flag=True, help="Leave the number of images open.")
@json_option
def command(
    architecture: str,
    to: str,
    out: Path,
    setting_text: str,
    weights: Path | None,
    dynamic_batch: bool,
    as_json: bool,
) -> None:
    """Write a network as an ONNX file or a TensorRT engine, batch norms folded in.

    ARCHITECTURE is a name of the zoo (darts_v2, pc_darts_cifar, ...; ./NAME is a file), a
    Genotype(...), a cell of the setting's space as datasets write it (|op~source|...), its
    identifier, or a file that has one of these: a search's result.json, a text, a Python file. Of
    several in a file, FILE:NAME or FILE:LINE is one; - reads standard input. The exported file is
    run on 32 images and compared with PyTorch before it gets its name (an ONNX file where ONNX
    Runtime is installed).

    \b
    Examples:
      latkit export darts_v2 --out darts.onnx
      latkit export searches/p100/result.json --weights trained.safetensors --out found.onnx
      latkit export pc_darts_cifar --to tensorrt --setting imagenet,batch=8 --out net.plan
      latkit export '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|'
        --setting nasbench201 --out cell.onnx
    """
    from latkit.core.files import write_atomically
    from latkit.networks.onnx_model import OPSET, build_onnx, external_data_path
    from latkit.spaces import parse_setting
    from latkit.spaces.architecture import architecture_cost, read_network
    from latkit.spaces.build import build_network, random_network

    setting = parse_setting(setting_text)
    cells = read_network(architecture, setting)
    for file in (out, external_data_path(out)):
        if file.exists():
            raise InputError(f"{file} exists", "choose another --out, or remove it")
    if setting.precision not in TOLERANCES:
        raise InputError(
            f"a network cannot be exported in {setting.precision}",
            f"use a setting with precision={' or '.join(TOLERANCES)}",
        )
    if to == "tensorrt" and dynamic_batch:
        raise InputError(
            "an engine is built for one number of images",
            "leave --dynamic-batch out and name the number, e.g. --setting imagenet,batch=8",
        )
    if weights is None:
        network = random_network(cells, setting, 0)
    else:
        network = build_network(cells, setting).eval()
        _load(network, weights)
    model = build_onnx(
        network, setting.batch, setting.resolution, setting.classes, dynamic_batch,
        setting.precision,
    )  # fmt: skip
    error: float | None = None
    size = VERIFIED_IMAGES if dynamic_batch else setting.batch
    files: list[Path] = []
    try:
        # The folder is on the file's own disk; its files have their names, which models refer to.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            made = Path(folder) / out.name
            if to == "tensorrt":
                plan, error = _build_engine(network, model.serialized(), setting)
                made.write_bytes(plan)
                temporary = [made]
            else:
                temporary = model.write(made)
                if importlib.util.find_spec("onnxruntime") is not None:
                    error = _verify(network, _onnxruntime_run(made), setting, size)
            for file in temporary:
                files.append(out.with_name(file.name))
                write_atomically(files[-1], functools.partial(os.replace, file))
    except OSError as problem:
        for file in files:
            file.unlink(missing_ok=True)
        raise from_os_error(problem, f"write {out}", "nothing was written") from None
    cost = architecture_cost(cells, setting)
    result = {
        "file": str(out),
        "genotype": str(cells),
        "setting": setting.to_dict(),
        "format": to,
        "opset": OPSET,
        "bytes": sum(file.stat().st_size for file in files),
        "external_data": str(files[0]) if len(files) > 1 else None,
        "dynamic_batch": dynamic_batch,
        "weights": "random" if weights is None else str(weights),
        "macs": cost.macs,
        "params": cost.params,
        "verified_images": None if error is None else _whole_runs(size),
        "largest_relative_error": error,
    }
    if as_json:
        print_json(result)
    else:
        shown = ("file", "format", "bytes", "weights", "params", "largest_relative_error")
        print_table("exported", ["what", "value"], [[name, str(result[name])] for name in shown])
    if len(files) > 1:
        note(f"the weights are in {files[0]}, which belongs beside {out}")
    if weights is None:
        warn("the weights are random: good for measuring, not for use (--weights has trained ones)")
    if error is None:
        note(
            "not verified, because ONNX Runtime is not installed: pip install 'latkit[onnxruntime]'"
        )


def _load(network: nn.Module, path: Path) -> None:
    """Load a state dict, be it of a wrapped network (DataParallel, torch.compile, an average).

    The auxiliary head, which is for training only, may be in it.

    Raises:
        InputError: it cannot be read, or is of another network.
    """
    import safetensors
    import safetensors.torch

    try:
        # Python's own errors have the path and a number, which those of safetensors lack.
        with open(path, "rb"):
            pass
        tensors = safetensors.torch.load_file(path)
    except OSError as error:
        fix = from_os_error(error, f"read {path}", "nothing was written").fix
        cause = f"cannot read the weights in {path} ({error.strerror or error})"
        raise InputError(cause, fix) from None
    except safetensors.SafetensorError as error:
        raise InputError(
            f"cannot read the weights in {path} ({error})",
            "save them with safetensors.torch.save_file(network.state_dict(), ...)",
        ) from None
    kept = {}
    for given, tensor in tensors.items():
        name = ".".join(part for part in given.split(".") if part not in WRAPPERS)
        if name in kept:
            raise InputError(f"{path} has {name} twice, as {given} too", "save one state_dict")
        if not name.startswith("auxiliary_head.") and name != AVERAGED_COUNT:
            kept[name] = tensor
    wanted = network.state_dict()
    wrong = [
        name
        for name in sorted({*wanted, *kept})
        if name not in kept or name not in wanted or kept[name].shape != wanted[name].shape
    ]
    if wrong:
        raise InputError(
            f"the weights in {path} are of another network ({len(wrong)} tensors differ, the first "
            f"is {wrong[0]})",
            "use the --setting and genotype they were trained with",
        )
    network.load_state_dict(kept)


def _onnxruntime_run(path: Path) -> Run:
    """What an ONNX file computes, on the CPU."""
    import onnxruntime

    from latkit.networks.onnx_model import INPUT

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0]


def _build_engine(network: nn.Module, content: bytes, setting: Setting) -> tuple[bytes, float]:
    """A TensorRT engine of an ONNX file, and its largest error."""
    from latkit.backends.tensorrt import TensorrtBackend

    with TensorrtBackend() as backend:
        plan = backend.plan(content, setting.precision)

        def run(images: Any) -> Any:
            with backend.load(plan, images) as runner:
                return runner.logits()

        return plan, _verify(network, run, setting, setting.batch)


def _whole_runs(size: int) -> int:
    """How many images are compared: as many runs of ``size`` as make ``VERIFIED_IMAGES``."""
    return -(-VERIFIED_IMAGES // size) * size


def _verify(network: nn.Module, run: Run, setting: Setting, size: int) -> float:
    """The largest error of a file's logits against PyTorch's, relative to the largest logit.

    Where all logits are 0 (a cell through which nothing passes), it is the largest itself.

    Args:
        run: the file's logits of ``size`` images.
        size: images per run.

    Raises:
        LatkitError: it is too large.
    """
    import numpy as np
    import torch

    images = torch.randn(
        _whole_runs(size), 3, setting.resolution, setting.resolution,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    wanted, got = [], []
    with torch.inference_mode():
        for batch in images.split(size):
            wanted.append(network(batch).numpy())
            got.append(run(batch.numpy()))
    error = float(np.abs(np.concatenate(got) - np.concatenate(wanted)).max())
    error /= float(np.abs(np.concatenate(wanted)).max()) or 1.0
    limit = TOLERANCES[setting.precision]
    if not error <= limit:
        raise LatkitError(
            f"the exported network differs from PyTorch by {error:.1e} (limit {limit:.0e})",
            "check the weights for values that are not finite or, in fp16, beyond its range "
            "(precision=fp32); otherwise report this defect",
        )
    return error
