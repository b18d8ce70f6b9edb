"""The figures of concepts.md, from committed results: ``python docs/plots.py [FOLDER]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
BLUE, ORANGE, GREY = "#2b6cb0", "#c05621", "#718096"
STYLE = {
    "svg.hashsalt": "latkit",  # the same file from the same numbers
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.figsize": (7.0, 3.4),
    "savefig.facecolor": "white",
}


def read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def anchors() -> None:
    """Retest sd of the protocols in a quiet and in a busy half hour."""
    protocols = ("naive", "paper", "fast", "standard", "precise")
    files = {
        "quieter": ("2026-11-24-profiling.json", BLUE),
        "busier": ("2026-11-24-profiling-busy.json", ORANGE),
    }
    for place, (label, (name, colour)) in enumerate(files.items()):
        rows = {row["protocol"]: row for row in read(name)["backends"]["torch-cpu"]["protocols"]}
        values = [rows[protocol]["retest_sd_percent"] for protocol in protocols]
        positions = [i + 0.4 * (place - 0.5) for i in range(len(protocols))]
        bars = plt.bar(positions, values, 0.38, color=colour, label=f"{label} half hour")
        plt.bar_label(bars, fmt="%.1f", fontsize=9)
    plt.xticks(range(len(protocols)), protocols)
    plt.ylabel("retest sd of one\nmeasurement, %")
    plt.legend(frameon=False)


def gradients() -> None:
    """Distance to the exact gradient when estimates are averaged."""
    results = read("2026-11-25-lat-gradient.json")
    rows = results["small"]["default, mid-search, uniform edges"]
    averaged = (1, 10, results["repeats"])
    styles = {
        "marginal": (BLUE, "o"),
        "straight-through": (ORANGE, "s"),
        "score-function": (GREY, "^"),
    }
    for name, (colour, marker) in styles.items():
        cosines = [rows[name][f"cosine_of_{key}"] for key in ("1", "10", "all")]
        distances = [1 - cosine for cosine in cosines]
        plt.plot(averaged, distances, color=colour, marker=marker, label=name)
    plt.xscale("log")
    plt.yscale("log")
    plt.xticks(averaged, map(str, averaged))
    plt.minorticks_off()
    plt.xlabel("estimates averaged")
    plt.ylabel("1 - cosine to\nthe exact gradient")
    plt.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def lpms() -> None:
    """MAPE by the number of measurements."""
    results = read("2026-11-25-lpm-darts.json")["darts"]
    counts = (10, 50, 200, 400)
    kinds = {
        "gradient-boosting": (GREY, "^", "--"),
        "lookup-table": (GREY, "s", ":"),
        "paper": (ORANGE, "s", "-"),
        "macs-only": (GREY, "x", "-"),
        "op-count": (GREY, "d", "-"),
        "default": (BLUE, "o", "-"),
    }
    for kind, (colour, marker, line) in kinds.items():
        errors = [results[f"{kind} {n}"]["mape_percent"] for n in counts]
        plt.plot(counts, errors, color=colour, marker=marker, linestyle=line, label=kind)
    plt.xscale("log")
    plt.yscale("log")
    plt.xticks(counts, map(str, counts))
    plt.yticks((1, 2, 5, 10), ("1", "2", "5", "10"))
    plt.minorticks_off()
    plt.xlabel("architectures trained on")
    plt.ylabel("MAPE, %")
    plt.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def retargeting() -> None:
    """Shares of the exact front's hypervolume."""
    columns = read("2026-11-27-fronts.json")["columns"]
    rows = {
        "true accuracies (oracle)": "true accuracies, LPMs from 10 cells",
        "another device's exact front": "exact fronts of other devices",
        "1,000 true accuracies (oracle)": (
            "oracle: accuracy LPM of 1000 true accuracies, LPMs from 10 cells"
        ),
        "retargeted": "one-shot, LPMs from 10 cells",
        "most weights for the latency": "most convolution weights per latency, ties: first",
        "LA-DARTS, 8 λ (scaled down)": "LA-DARTS, 8 λ, last 3 epochs",
        "24 random cells": "random 24 cells",
    }
    shares = [columns[column]["mean"]["share"] for column in rows.values()]
    colours = [BLUE if label == "retargeted" else GREY for label in rows]
    bars = plt.barh(range(len(rows)), shares, 0.7, color=colours)
    plt.bar_label(bars, fmt=" %.3f", fontsize=9)
    plt.yticks(range(len(rows)), list(rows))
    plt.gca().invert_yaxis()
    plt.xlim(0.8, 1.01)
    plt.xlabel("share of the exact front's hypervolume (axis begins at 0.8)")


FIGURES = {
    "concept-anchors": anchors,
    "concept-gradients": gradients,
    "concept-lpm": lpms,
    "concept-retargeting": retargeting,
}


def main(folder: Path) -> None:
    with plt.rc_context(STYLE):
        for name, draw in FIGURES.items():
            plt.figure(layout="constrained")
            draw()
            plt.savefig(folder / f"{name}.svg", metadata={"Date": None})
            plt.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "images")
