"""``latkit predict``"""

from __future__ import annotations

import click

from latkit.cli.output import json_option, print_json, show, warn


@click.command(name="predict")
@click.argument("architectures", nargs=-1)
@click.option("--device", "reference", required=True, help="LPM: p100, p100@3, pi5+energy_mj, ...")
@click.option("--space", default="darts", show_default=True, help="Space of the LPM.")
@click.option(
    "--setting",
    "setting_text",
    help="The network you mean; refused if the LPM is of another [default: the LPM's own].",
)
@json_option
def command(
    architectures: tuple[str, ...],
    reference: str,
    space: str,
    setting_text: str | None,
    as_json: bool,
) -> None:
    """Predict latencies, or what else an LPM is of, each with its error.

    ARCHITECTURES are texts of the space, identifiers (whole numbers), names of the zoo
    (./NAME is a file), Genotype(...) texts, or files that have some: a list with one a line, a
    Python file, a log, a search's result.json. FILE:NAME or FILE:LINE is one of a file; - reads
    standard input. Of a genotype the normal cell counts: the reduction cell is the LPM's setting's.

    \b
    Examples:
      latkit predict --device p100 darts_v2 pc_darts_cifar
      latkit predict --device my-gpu+energy_mj darts_v2
      latkit predict --device my-cpu --json candidates.txt > latencies.json
      latkit predict --device my-cpu genotypes.py:PC_DARTS searches/my-cpu/result.json
      latkit predict --space nasbench201 --device jetson 6111 < /dev/null
    """
    from latkit.registry import load_lpm
    from latkit.reports.lpm import predictions_parts
    from latkit.spaces import parse_setting

    lpm = load_lpm(reference, space)
    if setting_text is not None:
        lpm.check_setting(parse_setting(setting_text))
    predictions = lpm.predict(architectures)
    if as_json:
        print_json(predictions.to_dict())
    else:
        show(predictions_parts(predictions))
    for line in predictions.warnings:
        warn(line)
