"""``latkit train-lpm``"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import (
    SEED,
    UserPath,
    json_option,
    note,
    number,
    print_json,
    print_table,
    warn,
)
from latkit.cli.progress import ProgressLine
from latkit.core.errors import DatasetError, InputError
from latkit.core.quantities import COSTS, LATENCY, MeasuredCost

if TYPE_CHECKING:
    from latkit.dataset import LatencyDataset, Target
    from latkit.lpm.store import LPMCard
    from latkit.lpm.training import Recipe, TrainedLPM
    from latkit.lpm.transfer import SourcePrior

METRIC_ROWS = (
    ("relative error (MAPE), %", "mape_percent", 2),
    ("within 5 %, % of networks", "within_5_percent", 1),
    ("within 10 %, % of networks", "within_10_percent", 1),
    ("Spearman", "spearman", 3),
    ("Kendall tau", "kendall_tau", 3),
    ("within its 50 % interval, %", "coverage_50", 1),
    ("within its 90 % interval, %", "coverage_90", 1),
)
KINDS = ("default", "paper", "macs-only", "op-count", "lookup-table", "gradient-boosting")


class _SeveralDevices(click.Command):
    """Lets ``--from-devices`` take several values: all up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        option, spread, taking = "--from-devices", [], False
        for arg, following in pairwise([*args, "-"]):
            if arg == option:
                taking = True
                if following.startswith("-"):
                    raise click.BadOptionUsage(option, f"{option} needs the name of a device.", ctx)
            elif arg.startswith("-"):
                taking = False
                spread.append(arg)
            else:
                spread += [option, arg] if taking else [arg]
        return super().parse_args(ctx, spread)


@click.command(name="train-lpm", cls=_SeveralDevices)
@click.argument("dataset", type=UserPath(), required=False)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="default",
    show_default=True,
    help="default: a Bayesian model of the networks' structure, good from ten architectures on; "
    "paper: the paper's network; the others are baselines to compare with.",
)
@click.option(
    "--cost",
    type=click.Choice(list(COSTS)),
    default=LATENCY,
    show_default=True,
    help="What the LPM predicts, of what the dataset has.",
)
@click.option(
    "--n-train",
    type=click.IntRange(min=2),
    help="Architectures to train on; the rest judge [default: four fifths].",
)
@click.option(
    "--choose",
    type=click.Choice(["random", "active"]),
    default="random",
    show_default=True,
    help="Which to train on: random ones, or always the one the model is least sure of.",
)
@click.option(
    "--from-devices",
    multiple=True,
    metavar="REF...",
    help="LPMs of other devices and the same cost in the registry to lean on, e.g. t4 or "
    "t4+energy_mj (their kind must be default).",
)
@click.option(
    "--learning-curve", is_flag=True, help="Also tell the errors of smaller training sets (slow)."
)
@click.option("--publish/--no-publish", default=True, help="Add it to the registry [default: yes].")
@click.option(
    "--standardize/--raw-targets",
    default=True,
    help="Of --kind paper: train on standardised targets [default], or on raw milliseconds as "
    "the paper does (which collapses to a constant at hundreds of milliseconds).",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Of --kind paper: passes over the data [default: the paper's 1000, and more on a small "
    "dataset so that training makes at least 10,000 updates].",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Of the choice of architectures and of all that is random in training.",
)
@json_option
def command(
    dataset: Path | None,
    kind: str,
    cost: str,
    n_train: int | None,
    choose: str,
    from_devices: tuple[str, ...],
    learning_curve: bool,
    publish: bool,
    standardize: bool,
    epochs: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Train a latency prediction module (LPM) on a dataset and publish it.

    DATASET is a folder made by latkit profile or latkit dataset import; without it, the only one
    below ./datasets is taken. A part of the architectures train the LPM, the rest judge it, beside
    a straight line in MACs. The LPM is published to the registry ($LATKIT_REGISTRY) as the next
    version for its device and cost: one of another cost than the latency is named with it, as in
    pi5+energy_mj.

    \b
    Examples:
      latkit train-lpm d
      latkit train-lpm d --cost energy_mj
      latkit train-lpm d --n-train 10 --choose active --from-devices t4 jetson
      latkit train-lpm d --kind paper --raw-targets --epochs 1000     (the paper to the letter)
      latkit train-lpm d --kind lookup-table --no-publish
    """
    from latkit.dataset import LatencyDataset
    from latkit.dataset.check import check_dataset
    from latkit.lpm.boosting import BoostingLPM
    from latkit.lpm.paper import PaperRecipe
    from latkit.lpm.training import Recipe, warnings_of
    from latkit.registry import Registry

    if publish and kind == BoostingLPM.kind:
        raise InputError(
            "gradient boosting has no gradient to search with, and no file format without pickle",
            "add --no-publish, to compare; publish --kind default",
        )
    opened = LatencyDataset.open(dataset or _only_dataset())
    for finding in check_dataset(opened)["findings"]:
        if finding["level"] == "unfit":
            warn(f"{opened.path} is unfit for training: {finding['text']}")
    disturbed = int((opened.flagged & ~opened.in_panel).sum())
    note(
        f"{opened.path}: {opened.usable().num_rows} of {opened.architectures} architectures usable "
        f"({disturbed} disturbed visits left out)"
    )
    target = opened.manifest.target
    registry = Registry() if publish else None
    if registry is not None:  # before anything is trained that could not be kept
        registry.check_writable()
    sources = load_sources(from_devices, target, cost) if from_devices else None
    paper = PaperRecipe(epochs=epochs, standardize=standardize)
    recipe = Recipe(kind, n_train, choose, seed, paper, sources, cost)
    trained = _train(opened, recipe)
    card = trained.card
    curve = _curve(opened, recipe) if learning_curve else None
    result = {**card.to_dict(), "learning_curve": curve}
    entry = None
    if registry is not None:
        entry = registry.publish(trained.lpm, card)
        location = registry.location(entry)
        result |= {"reference": entry.reference, "location": location}
        # At once: whatever happens to the output, nobody should publish it a second time.
        note(f"published: {location}")
    if as_json:
        print_json(result)
    else:
        name = f"{target.device} ({kind})"
        if entry:
            name = f"{entry.short_reference}@{entry.version}"
        print_table(
            f"LPM {name} on {card.metrics['n_test']} held-out networks "
            f"(trained on {card.metrics['n_train']})",
            ["", "LPM", "straight line in MACs"],
            metric_rows(card),
        )
        if curve is not None:
            print_curve(curve, card.measured_cost)
        retest = card.dataset["retest_sd_percent"]
        if retest is not None:
            note(f"one measurement of the dataset repeats to {number(retest, 2)} % (retest sd)")
    for line in warnings_of(card):
        warn(line)
    if entry and entry.space == "darts" and cost == LATENCY:
        note(f"next: latkit search --device {entry.device} --data digits --preset cpu --out found")
    elif entry:
        note(
            f"next: latkit predict --space {entry.space} --device {entry.short_reference} "
            "ARCHITECTURE"
        )


def metric_rows(card: LPMCard) -> list[list[str]]:
    """The metrics of an LPM and its baseline as table rows."""
    cost, ours, baseline = card.measured_cost, card.metrics, card.baselines["macs_only"]
    absolute = (f"absolute error (MAE), {cost.unit}", f"mae_{cost.suffix}", 3)
    return [
        [label, number(ours.get(key), digits), number(baseline.get(key), digits)]
        for label, key, digits in (absolute, *METRIC_ROWS)
    ]


def print_curve(curve: list[dict[str, Any]], cost: MeasuredCost) -> None:
    """The paper's Table 1, of this dataset."""
    columns = (
        "n_train",
        f"mae_{cost.suffix}",
        "mape_percent",
        "spearman",
        "coverage_90",
        "fit_seconds",
    )
    rows = [
        [str(point["n_train"]), *(number(point[name], 3) for name in columns[1:])]
        for point in curve
    ]
    names = ["trained on", f"MAE {cost.unit}", "MAPE %", "Spearman", "in 90 % interval", "fit, s"]
    print_table("learning curve, same held-out networks", names, rows)


def _train(dataset: LatencyDataset, recipe: Recipe) -> TrainedLPM:
    from latkit.lpm.training import train_lpm

    if recipe.kind != "paper":
        return train_lpm(dataset, recipe)
    rows = recipe.n_train or 4 * dataset.usable().num_rows // 5
    progress = ProgressLine("epochs", recipe.paper.epochs_for(rows))
    try:
        return train_lpm(
            dataset, recipe, lambda epoch, loss: progress.update(epoch, f"loss {loss:.4g}")
        )
    finally:
        progress.close()


def _curve(dataset: LatencyDataset, recipe: Recipe) -> list[dict[str, Any]]:
    from latkit.lpm.training import learning_curve

    return learning_curve(dataset, recipe, lambda n: note(f"learning curve: {n} done"))


def load_sources(references: tuple[str, ...], target: Target, cost: str) -> SourcePrior:
    """The LPMs of a cost of other devices that references name.

    Raises:
        InputError: one is unknown, of another cost, of a kind that cannot be leaned on, or of the
            target's own device: it may have seen what is to judge the new one.
    """
    from latkit.lpm.default import DefaultLPM
    from latkit.lpm.transfer import SourcePrior
    from latkit.registry import Registry
    from latkit.spaces import get_space

    registry = Registry()
    sources = []
    for reference in references:
        entry = registry.resolve(reference, target.space, cost)
        lpm, card = registry.load(entry)
        if not isinstance(lpm, DefaultLPM):
            raise InputError(
                f"the LPM {entry.reference} is of the kind {card.training['kind']}",
                "only the kind default can be leaned on; leave this one out",
            )
        if target.device in {entry.device, *_devices_within(lpm.hyper_parameters)}:
            raise InputError(
                f"the LPM {entry.reference} was made from measurements of {target.device} itself",
                "name other devices",
            )
        if card.target.setting != target.setting:
            note(f"{entry.reference} is of another setting than {target.setting.slug}")
        sources.append((entry.reference, lpm))
    return SourcePrior.of(get_space(target.space), sources)


def _devices_within(hyper_parameters: dict[str, Any]) -> set[str]:
    """Devices whose LPMs an LPM leans on, and those these lean on."""
    found: set[str] = set()
    for source in hyper_parameters.get("sources", []):
        found |= {source["name"].split("/")[0], *_devices_within(source["hyper_parameters"])}
    return found


def _only_dataset() -> Path:
    found = sorted(path.parent for path in Path("datasets").glob("**/dataset.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise DatasetError(
            "no DATASET was named and ./datasets holds none",
            "make one with latkit profile, or name its folder before the options: latkit train-lpm "
            "DATASET",
        )
    listed = ", ".join(str(path) for path in found)
    raise DatasetError(f"./datasets holds {len(found)} datasets", f"name one of: {listed}")
