"""``latkit export``"""

from __future__ import annotations

from typing import Any

import click

from latkit.cli.output import UserPath, json_option, print_json, print_table
from latkit.cli.progress import Terminal


# fmt: off
@click.command(name="export")
@click.argument("architecture")
@click.option("--to", type=click.Choice(["onnx", "tensorrt", "pte"]), default="onnx",
              show_default=True, help="onnx: for any runtime; tensorrt: an engine for this "
                   "machine's GPU and TensorRT; pte: a program of ExecuTorch for XNNPACK, in fp32.")
@click.option("--out", type=UserPath(), required=True, help="New file, e.g. net.onnx or net.pte.")
@click.option("--setting",
              help="The network around the cells (see latkit profile --help); precision=fp16 "
                   "halves the file [default: imagenet, or that of the training in --weights].")
@click.option("--weights", type=UserPath(),
              help="Trained weights: the network's state_dict as *.safetensors, or the folder of "
                   "a latkit train [default: random ones, fit for measuring only].")
@click.option("--dynamic-batch", is_flag=True, help="Leave the number of images open.")
@json_option
def command(as_json: bool, **fields: Any) -> None:
    """Write a network as an ONNX file, a TensorRT engine or a program, batch norms folded in.

    ARCHITECTURE is a name of the zoo (darts_v2, pc_darts_cifar, ...; ./NAME is a file), a
    Genotype(...), a cell of the setting's space as datasets write it (|op~source|...), its
    identifier, or a file that has one of these: a search's result.json, a text, a Python file. Of
    several in a file, FILE:NAME or FILE:LINE is one; - reads standard input. The exported file is
    run on 32 images and compared with PyTorch before it gets its name (an ONNX file where ONNX
    Runtime is installed, a program where ExecuTorch is).

    \b
    Examples:
      latkit export darts_v2 --out darts.onnx
      latkit export trained/training.json --weights trained --out found.onnx
      latkit export searches/p100/result.json --weights trained.safetensors --out found.onnx
      latkit export pc_darts_cifar --to tensorrt --setting imagenet,batch=8 --out net.plan
      latkit export fbnet_c --to pte --setting fbnet --out phone.pte
      latkit export '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|'
        --setting nasbench201 --out cell.onnx
    """
    from latkit.tasks.export import ExportRequest, export

    result = export(ExportRequest(**fields), Terminal()).to_dict()
    if as_json:
        print_json(result)
    else:
        shown = ("file", "format", "bytes", "weights", "params", "largest_relative_error")
        print_table("exported", ["what", "value"], [[name, str(result[name])] for name in shown])
# fmt: on
