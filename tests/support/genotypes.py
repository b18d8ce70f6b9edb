"""Public genotypes with their published parameters, and the forms in which people have them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.zoo import ZOO, _cell

CONCAT = (2, 3, 4, 5)

# Normal cell, reduction cell, and the parameters in millions that the source publishes for the
# CIFAR network of 20 cells and 36 channels without its auxiliary head.
PUBLIC = {
    "P_DARTS": (
        "skip~0 dil3~1 skip~0 sep3~1 sep3~1 sep3~3 sep3~0 dil5~4",
        "avg~0 sep5~1 sep3~0 dil5~2 max~0 dil3~1 dil3~1 dil5~3",
        "3.433798",
    ),
    "PC_DARTS": (
        "sep3~1 skip~0 sep3~0 dil3~1 sep5~0 sep3~1 avg~0 dil3~1",
        "sep5~1 max~0 sep5~1 sep5~2 sep3~0 sep3~3 sep3~1 sep3~2",
        "3.634678",
    ),
    "DARTS_V2": (
        "sep3~0 sep3~1 sep3~0 sep3~1 sep3~1 skip~0 skip~0 dil3~2",
        "max~0 max~1 skip~2 max~1 max~0 skip~2 skip~2 max~1",
        "3.349342",
    ),
    "MdeNAS": (
        "sep5~1 sep3~0 skip~0 sep5~1 sep5~3 sep3~1 dil5~3 max~4",
        "max~0 sep5~1 skip~0 skip~1 sep3~3 skip~2 dil3~3 sep5~0",
        "3.78",
    ),
    "DrNAS": (
        "sep3~0 sep5~1 sep3~1 sep3~2 skip~0 sep3~1 sep3~2 dil5~3",
        "max~0 sep5~1 dil5~2 sep5~1 sep5~1 dil5~3 skip~4 sep5~1",
        "4.1",
    ),
    "SDARTS": (
        "sep3~0 sep3~1 sep3~1 skip~0 sep5~0 dil3~3 dil3~4 skip~0",
        "max~0 sep5~1 skip~2 max~0 skip~3 skip~2 skip~2 sep5~4",
        "3.34",
    ),
    "FairDARTS_d": (
        "sep3~0 sep5~1 dil3~1 max~0 dil3~0 dil3~1 sep3~0 dil5~1",
        "max~0 sep5~1 avg~0 dil5~2 dil3~3 avg~0 avg~0 skip~3",
        "3.84",  # with the auxiliary head's 0.476426
    ),
    "SNAS_mild": (
        "sep3~0 sep3~1 skip~0 dil3~1 skip~0 skip~1 skip~0 sep3~1",
        "max~0 max~1 max~1 skip~2 max~1 skip~2 max~0 dil5~2",
        "2.66",
    ),
}
AUXILIARY = {"FairDARTS_d": 476426}
GENOTYPES = {
    name: Genotype(_cell(normal), CONCAT, _cell(reduce), CONCAT)
    for name, (normal, reduce, _) in PUBLIC.items()
}


def plain(g: Genotype) -> str:
    return (
        f"Genotype(normal={list(g.normal)}, normal_concat=range(2, 6), "
        f"reduce={list(g.reduce)}, reduce_concat=range(2, 6))"
    )


def in_lists_over_lines(g: Genotype) -> str:
    normal, reduce = (
        ",\n     ".join(str(list(pair)) for pair in cell) for cell in (g.normal, g.reduce)
    )
    return (
        f"  Genotype(\n  normal = [{normal}],  # the normal cell :)\n\n  normal_concat=[2,3,4,5],\n"
        f"\treduce = ({reduce}),\n  # don't\n  reduce_concat=list( range(2,6) ),\n)\n"
    )


def in_order(g: Genotype) -> str:
    return f"gt.Genotype({g.normal}, (2, 3, 4, 5), {g.reduce}, [2, 3, 4, 5])"


def nested(g: Genotype, brackets: str = "()") -> str:
    left, right = brackets

    def cell(pairs: object) -> str:
        assert isinstance(pairs, tuple)
        nodes = (f"{left}{pairs[i]}, {pairs[i + 1]}{right}" for i in range(0, 8, 2))
        return f"[{', '.join(nodes)}]"

    return (
        f"Genotype(normal={cell(g.normal)}, normal_concat=[2, 3, 4, 5], reduce={cell(g.reduce)}, "
        "reduce_concat=[2, 3, 4, 5], connectN=None, connects=None)"
    )


def triples(g: Genotype) -> str:
    normal, reduce = (
        [(name, i // 2 + 2, source) for i, (name, source) in enumerate(cell)]
        for cell in (g.normal, g.reduce)
    )
    # In whatever order: the node is in the triple.
    return (
        f"Genotype(normal={normal[::-1]}, normal_concat=range(2, 6), reduce={reduce}, "
        "reduce_concat=range(2, 6))"
    )


def numpys(g: Genotype) -> str:
    text = re.sub(r"', (\d)\)", r"', np.int64(\1))", plain(g))
    return text.replace("range(2, 6)", "[np.int64(2), numpy.int32(3), int64(4), np.int64(5)]")


def assigned(g: Genotype) -> str:
    return f"from collections import namedtuple\n\n# NAME = Genotype(old)\nNAME = {plain(g)}\n"


def in_log(g: Genotype) -> str:
    return (
        "11/24 03:12:01 PM gpu device = 0\n"
        f"2026-11-24 15:12:01,003 INFO [train_search.py:99] genotype = {plain(g)}\n"
        "11/24 03:12:01 PM train 000 2.3e+00 | 10.9 % | 50.0 %\n"
    )


def folded(text: str, end: str = "") -> str:
    """As YAML breaks a long value at its spaces."""
    lines, line = [], ""
    for word in text.split(" "):
        if len(line) + len(word) > 70:
            lines.append(line + end)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n    ".join([*lines, line])


def in_yaml(g: Genotype) -> str:
    return f"seed: 2\ngenotype: {folded(plain(g))}\nlr: 0.025\n"


def in_yaml_blocks(g: Genotype) -> str:
    return f"model:\n  arch: >-\n    {folded(plain(g))}\n  layers: 20\n"


def in_quoted_yaml(g: Genotype) -> str:
    return "genotype: '" + folded(plain(g).replace("'", "''")) + "'\nlr: 1\n"


def in_escaped_yaml(g: Genotype) -> str:
    text = plain(g).replace("'", '\\"')
    return f'"genotype": "{folded(text, chr(92))}"\n'


def in_a_result(g: Genotype) -> str:
    epochs = [{"epoch": 1, "genotype": str(ZOO["gdas"])}]
    return json.dumps({"genotype": str(g), "arch": "|?|", "found": {"macs": 1}, "epochs": epochs})


def in_json_fields(g: Genotype) -> str:
    fields = {"normal": g.normal, "normal_concat": CONCAT, "reduce": g.reduce}
    return json.dumps({"cells": {**fields, "reduce_concat": CONCAT, "loose_ends": None}}, indent=1)


def in_json_lines(g: Genotype) -> str:
    return f'{{"epoch": 1, "loss": 2.0}}\n{json.dumps({"epoch": 2, "genotype": plain(g)})}\n'


FORMS: dict[str, Callable[[Genotype], str]] = {
    form.__name__: form
    for form in (
        plain, in_lists_over_lines, in_order, nested, triples, numpys, assigned, in_log, in_yaml,
        in_yaml_blocks, in_quoted_yaml, in_escaped_yaml, in_a_result, in_json_fields, in_json_lines,
    )
}  # fmt: skip
FORMS["steps"] = lambda g: plain(g).replace("range(2, 6)", "set(range(2, 6, 1))")
FORMS["arange"] = lambda g: plain(g).replace("range(2, 6)", "np.arange(2, 6)")
FORMS["further fields in order"] = lambda g: f"{in_order(g)[:-1]}, None, None)"
FORMS["nested lists"] = lambda g: nested(g, "[]")
FORMS["windows"] = lambda g: in_lists_over_lines(g).replace("\n", "\r\n")
