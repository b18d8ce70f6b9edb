"""``latkit predict``"""

from __future__ import annotations

import click

from latkit.cli.output import json_option, note, number, print_json, print_table, warn
from latkit.core.errors import InputError


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
    import numpy as np

    from latkit.registry import Registry
    from latkit.spaces import get_space, parse_setting
    from latkit.spaces.reader import read_architectures

    found = get_space(space)
    registry = Registry()
    entry = registry.resolve(reference, space)
    lpm, card = registry.load(entry)
    if setting_text is not None and parse_setting(setting_text) != card.target.setting:
        raise InputError(
            f"the LPM {entry.reference} is of the setting {card.target.setting.slug}, not "
            f"{parse_setting(setting_text).slug}",
            "leave --setting out, or profile and train for yours",
        )
    if not architectures:
        raise InputError("no architecture was named", "name some, a file of them, or - for stdin")
    named = [one for given in architectures for one in read_architectures(given, found)]
    texts = [one.label for one in named]
    matrix = np.concatenate([one.row(found) for one in named])
    encodings = found.encode(matrix)
    mean, std = lpm.predict(encodings), lpm.predict_std(encodings)
    cost = card.measured_cost
    names = (cost.name, f"std_{cost.suffix}")
    rows = [
        {"arch": found.format(row), "given": text, names[0]: float(m), names[1]: float(s)}
        for row, text, m, s in zip(matrix, texts, mean, std, strict=True)
    ]
    if as_json:
        target = card.target.to_dict()
        print_json(
            {"lpm": entry.reference, "cost": cost.name, "target": target, "predictions": rows}
        )
    else:
        print_table(
            f"predicted by {entry.reference}",
            ["architecture", f"{cost.noun} {cost.unit}", f"± {cost.unit}"],
            [
                [text, number(m, 3), number(s, 3)]
                for text, m, s in zip(texts, mean.tolist(), std.tolist(), strict=True)
            ],
        )
        note(f"of the setting {card.target.setting.slug}; ± holds two thirds of measurements")
    if "warning" in card.training:
        warn(card.training["warning"])
    low, high = card.dataset[cost.range_key]
    outside = sum(not low <= m <= high for m in mean.tolist())
    if outside:
        warn(
            f"{outside} of {len(rows)} predictions are outside the range of {cost.noun} that the "
            f"LPM was trained on ({low:.2f} to {high:.2f} {cost.unit}): trust them less"
        )
