"""``latkit export``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import json_option, note, print_json, print_table, warn
from latkit.errors import InputError, LatkitError, from_os_error

if TYPE_CHECKING:
    from latkit.networks.network import Network
    from latkit.networks.setting import Setting

VERIFIED_IMAGES = 32
# Of logits, relative to the largest; fp32 in another order of summation stays well below.
TOLERANCE = 1e-5


@click.command(name="export")
@click.argument("genotype")
@click.option("--to", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="New file, e.g. net.onnx."
)
@click.option(
    "--setting",
    "setting_text",
    default="imagenet",
    show_default=True,
    help="The network around the cells (see latkit profile --help).",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Trained weights: the network's state_dict as *.safetensors [default: random ones, fit "
    "for measuring only].",
)
@click.option("--dynamic-batch", is_flag=True, help="Leave the number of images open.")
@json_option
def command(
    genotype: str,
    to: str,
    out: Path,
    setting_text: str,
    weights: Path | None,
    dynamic_batch: bool,
    as_json: bool,
) -> None:
    """Write a network as an ONNX file, batch norms folded into the convolutions.

    GENOTYPE is a name of the zoo (darts_v2, pc_darts, ...), a Genotype(...), or the result.json of
    a search. Where ONNX Runtime is installed, the file is run on 32 images and compared with
    PyTorch before it gets its name.

    \b
    Examples:
      latkit export darts_v2 --out darts.onnx
      latkit export searches/p100/result.json --weights trained.safetensors --out found.onnx
    """
    from latkit.files import write_atomically
    from latkit.networks.cost import network_cost
    from latkit.networks.network import Network
    from latkit.networks.onnx_model import OPSET, build_onnx
    from latkit.networks.setting import parse_setting
    from latkit.networks.weights import random_network

    setting = parse_setting(setting_text)
    cells = read_genotype(genotype)
    if out.exists():
        raise InputError(f"{out} exists", "choose another file, or remove it")
    if weights is None:
        network = random_network(cells, setting, 0)
    else:
        network = Network(cells, setting).eval()
        _load(network, weights)
    model = build_onnx(network, setting.batch, setting.resolution, dynamic_batch).embedded()
    content = model.SerializeToString()
    error = _verify(network, content, setting, dynamic_batch)

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    try:
        write_atomically(out, write)
    except OSError as problem:
        raise from_os_error(problem, f"write {out}", "nothing was written") from None
    cost = network_cost(cells, setting)
    result = {
        "file": str(out),
        "genotype": str(cells),
        "setting": setting.to_dict(),
        "opset": OPSET,
        "bytes": len(content),
        "dynamic_batch": dynamic_batch,
        "weights": "random" if weights is None else str(weights),
        "macs": cost.macs,
        "params": cost.params,
        "verified_images": None if error is None else VERIFIED_IMAGES,
        "largest_relative_error": error,
    }
    if as_json:
        print_json(result)
    else:
        shown = ("file", "opset", "bytes", "weights", "params", "largest_relative_error")
        print_table("exported", ["what", "value"], [[name, str(result[name])] for name in shown])
    if weights is None:
        warn("the weights are random: good for measuring, not for use (--weights has trained ones)")
    if error is None:
        note(
            "not verified, because ONNX Runtime is not installed: pip install 'latkit[onnxruntime]'"
        )


def read_genotype(text: str) -> Any:
    """A genotype from what a user names it by: the zoo's name, its text, or a file.

    Raises:
        InputError: it is none of these.
        LatkitError: the file cannot be read.
    """
    import json

    from latkit.networks.zoo import get_genotype

    path = Path(text)
    if text.lstrip().startswith("Genotype(") or not path.suffix:
        return get_genotype(text)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            raise from_os_error(error, f"read {path}", "nothing was changed") from None
        raise InputError(f"{path} is not text", "name a result.json or a text file") from None
    if path.suffix == ".json":
        try:
            content = str(json.loads(content)["genotype"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path} has no genotype", "name the result.json of a search"
            ) from None
    return get_genotype(content.strip())


def _load(network: Network, path: Path) -> None:
    """Load a state dict; the auxiliary head, which is for training only, may be in it."""
    import safetensors
    import safetensors.torch

    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"cannot read the weights in {path} ({error})",
            "save them with safetensors.torch.save_file(network.state_dict(), ...)",
        ) from None
    kept = {k: v for k, v in tensors.items() if not k.startswith("auxiliary_head.")}
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


def _verify(
    network: Network, content: bytes, setting: Setting, dynamic_batch: bool
) -> float | None:
    """The largest error of the model's logits against PyTorch's; None without ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError:
        return None
    import numpy as np
    import torch

    from latkit.networks.onnx_model import INPUT

    images = torch.randn(
        VERIFIED_IMAGES, 3, setting.resolution, setting.resolution,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    size = VERIFIED_IMAGES if dynamic_batch else setting.batch
    with torch.inference_mode():
        wanted, got = [], []
        for start in range(0, VERIFIED_IMAGES, size):
            batch = images[start : start + size]
            if len(batch) < setting.batch and not dynamic_batch:  # the model takes whole ones
                batch = torch.cat(
                    [batch, batch.new_zeros(setting.batch - len(batch), *batch.shape[1:])]
                )
            wanted.append(network(batch).numpy())
            got.append(session.run(None, {INPUT: batch.numpy()})[0])
    error = float(np.abs(np.concatenate(got) - np.concatenate(wanted)).max())
    error /= float(np.abs(np.concatenate(wanted)).max())
    if not error <= TOLERANCE:
        raise LatkitError(
            f"the exported model differs from PyTorch by {error:.1e} (limit {TOLERANCE:.0e})",
            "check the weights for values that are not finite; otherwise report this defect",
        )
    return error
