"""``latkit predict``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import json_option, note, number, print_json, print_table, warn
from latkit.errors import InputError, LatkitError, from_os_error

if TYPE_CHECKING:
    from latkit.spaces import ChoiceMatrix, SearchSpace


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

    ARCHITECTURES are texts of the space, identifiers (whole numbers), names of the zoo or
    Genotype(...) texts, or files of them, one a line; - reads such lines from standard input. Of a
    genotype the normal cell counts: the reduction cell is the LPM's setting's.

    \b
    Examples:
      latkit predict --device p100 darts_v2 pc_darts_cifar
      latkit predict --device my-gpu+energy_mj darts_v2
      latkit predict --device my-cpu --json candidates.txt > latencies.json
      latkit predict --space nasbench201 --device jetson 6111 < /dev/null
    """
    import numpy as np

    from latkit.networks.setting import parse_setting
    from latkit.registry import Registry
    from latkit.spaces import get_space

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
    texts = _read(architectures)
    if not texts:
        raise InputError("no architecture was named", "name some, a file of them, or - for stdin")
    matrix = np.concatenate([read_architecture(found, text) for text in texts])
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


def read_architecture(space: SearchSpace, text: str) -> ChoiceMatrix:
    """An architecture from what a user names it by, as a choice matrix of one row.

    Raises:
        InputError: it is none of the space.
    """
    from latkit.networks.zoo import ZOO, get_genotype
    from latkit.spaces import DartsSpace

    try:
        if text.isascii() and text.isdecimal():
            if len(text) > 30:
                raise InputError(f"{text[:30]}... is no identifier", "use a smaller number")
            return space.unrank([int(text)])
        if isinstance(space, DartsSpace) and (
            text.startswith("Genotype(") or text.lower().replace("-", "_") in ZOO
        ):
            return space.from_genotype(get_genotype(text))
        return space.parse(text)
    except LatkitError as error:
        raise InputError(f"{text[:80]!r}: {error.cause}", error.fix) from None


def _read(given: tuple[str, ...]) -> list[str]:
    """The lines of files and of standard input, and whatever is no file as it is."""
    texts: list[str] = []
    for item in given:
        path = Path(item)
        if item == "-":
            lines: Any = sys.stdin.read()
        elif "|" not in item and "(" not in item and len(item) < 255 and path.is_file():
            try:
                lines = path.read_text(encoding="utf-8")
            except OSError as error:
                raise from_os_error(error, f"read {path}", "nothing was changed") from None
            except UnicodeDecodeError:
                raise InputError(f"{path} is not text", "write one architecture a line") from None
        else:
            texts.append(item)
            continue
        texts += [line.strip() for line in lines.splitlines() if line.strip()]
    return texts
