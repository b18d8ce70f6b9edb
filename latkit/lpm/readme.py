"""``README.md`` of a published LPM, which the Hugging Face hub renders as a model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latkit.dataset.readme import (
    LICENSE,
    LICENSE_TEXT,
    README,
    escape,
    facts,
    front_matter,
    number,
    table,
    table_of,
    target_rows,
)

if TYPE_CHECKING:
    from latkit.lpm.store import LPMCard

__all__ = ["README", "model_card"]


def model_card(card: LPMCard) -> str:
    """The ``README.md`` of an LPM, from its card alone; the same card has the same text."""
    target, quantity = card.target, card.quantity
    metrics = _mapping(card.metrics)
    baseline = _mapping(_mapping(card.baselines).get("macs_only"))
    trained_on = metrics.get("n_train", _mapping(card.dataset).get("architectures"))
    judged = (
        ("relative error (MAPE), %", "mape_percent"),
        (f"absolute error (MAE), {quantity.unit}", f"mae_{quantity.suffix}"),
        ("Spearman", "spearman"),
        ("held by the 90 % interval, %", "coverage_90"),
    )
    rows = {
        **target_rows(target),
        "predicts": f"{quantity.noun} ({quantity.unit}) of an architecture",
        "kind": card.kind,
        "trained on (architectures)": number(trained_on),
        "judged on (architectures)": number(metrics.get("n_test")),
        "made": f"{card.created_at} by latkit {card.latkit_version}",
    }
    reference = target.device + ("" if quantity.name == "latency_ms" else f"+{quantity.name}")
    return "\n".join(
        (
            front_matter(
                library_name="latkit",
                license=LICENSE,
                tags=["latkit", "neural-architecture-search", f"{quantity.noun}-prediction"
                      .replace(" ", "-"), target.space],
            ),
            f"# LPM: {quantity.noun} of {escape(target.space)} architectures on "
            f"{escape(target.device)}\n",
            "A latency prediction module of latkit: it predicts what a network costs on one "
            "device, without the device.\n",
            table("what", "value", rows),
            "## Error on held-out architectures\n",
            table_of(
                [
                    ["", "this LPM", "a straight line in MACs"],
                    *(
                        [label, number(metrics.get(key)), number(baseline.get(key))]
                        for label, key in judged
                    ),
                ]
            ),
            "## The machine that was measured\n",
            table("fact", "value", facts(_mapping(card.fingerprint))),
            "## Use\n",
            "```\nlatkit registry pull URL    # verifies both files' SHA-256\n"
            f"latkit predict --space {target.space} --device {reference} ARCHITECTURE\n```\n",
            LICENSE_TEXT,
            "",
        )
    )  # fmt: skip


def _mapping(value: Any) -> Mapping[str, Any]:
    """What a card has, whoever wrote it: nothing where it is no mapping."""
    return value if isinstance(value, Mapping) else {}
