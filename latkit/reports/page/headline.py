"""The first screen: what is best for each device, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from latkit.reports.figures.charts import Spot
from latkit.reports.page.blocks import Headline, IntervalsFigure, Number, Remark, with_evidence
from latkit.reports.page.content import Content
from latkit.reports.page.data_sections import evidence_of
from latkit.reports.page.inputs import Inputs, MadeDataset
from latkit.reports.page.lpm_sections import lpm_evidence
from latkit.reports.page.runs import (
    MeasuredRow,
    NetworkFacts,
    Search,
    Training,
    short_names,
    shown_name,
)

Confidence = Literal["high", "fair", "low"]
# Of two thirds of measurements the interval is one ±; of 95 % about twice that.
WIDE = 2.0
# Pixels of a figure that a telephone shows whole.
NARROW = 480.0


def headlines(
    inputs: Inputs,
    searches: Sequence[Search],
    trainings: Sequence[Training],
    rows: Sequence[MeasuredRow],
) -> tuple[Headline, ...]:
    """One for each device that something is known of, in the order of the inputs."""
    devices = dict.fromkeys(
        [
            *(search.device for search in searches),
            *(_device(result) for result in inputs.retargets),
            *(row.device for row in rows),
            *(made.device for made in inputs.datasets),
            *(f"{lpm.target.device} ({lpm.target.backend})" for lpm in inputs.lpms),
        ]
    )
    names = short_names(searches)
    found = []
    for device in devices:
        own = [search for search in searches if search.device == device]
        datasets = [made for made in inputs.datasets if made.device == device]
        measured = [row for row in rows if row.device == device]
        retargets = [result for result in inputs.retargets if _device(result) == device]
        if own:
            found.append(_of_searches(device, own, names, trainings, datasets))
        elif retargets:
            found.append(_of_retargets(device, retargets))
        elif measured:
            found.append(_of_measurements(device, measured))
        elif datasets:
            found.append(_of_dataset(device, datasets[0]))
        else:
            found.append(_of_lpm(device, inputs))
    return tuple(found)


def choose(
    searches: Sequence[Search], trainings: Sequence[Training]
) -> tuple[Search, Training | None, str]:
    """The best of the searches of a device, its training if there is one, and by what it is best.

    By the test error where all found cells were trained; else by the accuracy of the supernets
    among what is not slower than the space's reference; else by latency.
    """
    trained = {training.genotype: training for training in trainings}
    own = [trained.get(search.genotype) for search in searches]
    if all(own):
        best, training = min(
            zip(searches, own, strict=True),
            key=lambda pair: pair[1].mean if pair[1] is not None else 0.0,
        )
        return best, training, "the lowest test error"
    quick = [s for s in searches if not s.collapsed and _is_quick(s)]
    if quick and all(s.accuracy is not None for s in quick):
        best = max(quick, key=lambda s: (s.accuracy or 0.0, -(s.found.best_ms or 0.0)))
        words = f"the supernet's highest accuracy among those not slower than {best.reference_name}"
    else:
        best = min(searches, key=lambda s: (s.collapsed, s.found.best_ms or float("inf")))
        words = "the lowest latency"
    return best, trained.get(best.genotype), words


def _is_quick(search: Search) -> bool:
    ours, theirs = search.found, search.reference
    if theirs is None or ours.best_ms is None or theirs.best_ms is None:
        return False
    return ours.best_ms <= theirs.best_ms


def _of_searches(
    device: str,
    searches: Sequence[Search],
    names: dict[str, str],
    trainings: Sequence[Training],
    datasets: Sequence[MadeDataset],
) -> Headline:
    best, training, by = choose(searches, trainings)
    found, reference = best.found, best.reference
    words = f"Cell {names[best.genotype]}, found by {best.name}"
    if len(searches) > 1:
        words += f": of {len(searches)} searches the one with {by}"
    ratio = ""
    pair = _comparable(found, reference)
    if pair is not None:
        ours, theirs, kind = pair
        ratio = f" It is {theirs / ours:.2f} times as fast as {best.reference_name} ({kind})."
    numbers = []
    if found.measured_ms is not None:
        numbers.append(Number("latency", found.measured_ms, "ms", ("measured",)))
    if found.predicted_ms is not None:
        spread = found.predicted_std_ms
        numbers.append(Number("latency", found.predicted_ms, "ms", ("predicted",), spread))
    if training is not None:
        spread = None if training.high is None else training.high - training.mean
        evidence = with_evidence("measured", training.scaled)
        numbers.append(Number("test error", training.mean, "%", evidence, spread))
    numbers.append(Number("MACs", found.macs / 1e6, "M", ("counted",), digits=1))
    confidence, reasons = _sure(best, datasets)
    if len({_kept_equal(search) for search in searches}) > 1 and training is None:
        text = "The searches differ in more than λ and the seed, so do their supernets' accuracies."
        reasons = (*reasons, Remark(text, (), True))
    return Headline(device, f"{words}.{ratio}", tuple(numbers), confidence, reasons, _figure(best))


def _device(result: Content) -> str:
    """The first device that something was retargeted to, and the backend."""
    first = result.first_object("devices")
    return f"{first.text('target.device')} ({first.text('target.backend')})"


def _of_retargets(device: str, results: Sequence[Content]) -> Headline:
    """Of what was retargeted to a device, the architecture that is predicted most accurate."""
    chosen = [(point, result) for result in results for point in result.objects("points")]
    best, result = max(chosen, key=lambda pair: pair[0].number("accuracy_percent"))
    cost = best.first_object("costs")
    measured = cost.optional_number("measured_ms")
    corrected = cost.optional_number("corrected_ms")
    numbers = []
    if measured is not None:
        spread = cost.optional_number("measured_error_ms")
        numbers.append(Number("latency", measured, "ms", ("measured",), spread))
    spread = cost.optional_number("predicted_std_ms")
    numbers.append(Number("latency", cost.number("predicted_ms"), "ms", ("predicted",), spread))
    if measured is None and corrected is not None:
        spread = cost.optional_number("corrected_std_ms")
        numbers.append(Number("latency, corrected", corrected, "ms", ("predicted",), spread))
    percent, spread = best.number("accuracy_percent"), best.number("accuracy_std_percent")
    numbers.append(Number("accuracy of a sub-network", percent, "%", ("predicted",), spread))
    numbers.append(Number("MACs", best.number("macs") / 1e6, "M", ("counted",), digits=1))
    reasons = [Remark("Its accuracy is predicted from sub-networks with shared weights.")]
    if measured is None:
        reasons.append(Remark("Its latency was not measured."))
    return Headline(
        device,
        f"Of {len(chosen)} architectures that were retargeted the one that is predicted most "
        f"accurate is {best.text('arch')} ({shown_name(result.source)}).",
        tuple(numbers),
        "low" if measured is None else "fair",
        tuple(reasons),
    )


def _kept_equal(search: Search) -> str:
    """What searches have to share whose supernets' accuracies are compared."""
    config = search.content.get("config")
    facts = dict(config) if isinstance(config, dict) else {}
    free = ("lambda_per_ms", "target_ms", "seed")
    return str({name: value for name, value in facts.items() if name not in free})


def _comparable(
    found: NetworkFacts, reference: NetworkFacts | None
) -> tuple[float, float, str] | None:
    """Two latencies known in the same way."""
    if reference is None:
        return None
    if found.measured_ms is not None and reference.measured_ms is not None:
        return found.measured_ms, reference.measured_ms, "measured"
    if found.predicted_ms is not None and reference.predicted_ms is not None:
        return found.predicted_ms, reference.predicted_ms, "predicted"
    return None


def _figure(search: Search) -> IntervalsFigure | None:
    rows = []
    for name, network in (("found", search.found), (search.reference_name, search.reference)):
        spots = []
        if network is not None and network.measured_ms is not None:
            spots.append(Spot("measured", network.measured_ms, 0.0))
        if network is not None and network.predicted_ms is not None:
            value, std = network.predicted_ms, network.predicted_std_ms or 0.0
            spots.append(Spot("predicted", value, 0.0, value - std, value + std))
        if spots:
            rows.append((name, tuple(spots)))
    if not rows:
        return None
    words = "; ".join(
        f"{name} {spot.name} {spot.x:.2f} ms" for name, spots in rows for spot in spots
    )
    return IntervalsFigure(
        title=f"What was found for {search.device}, and {search.reference_name}",
        description=f"Latencies: {words}. Bars hold two thirds of measurements.",
        caption="Bars hold two thirds of measurements.",
        evidence=("measured", "predicted") if search.found.measured_ms else ("predicted",),
        x_label="latency, ms",
        rows=tuple(rows),
        width=NARROW,
    )


def _sure(best: Search, datasets: Sequence[MadeDataset]) -> tuple[Confidence, tuple[Remark, ...]]:
    """How sure it is: high where a measurement confirms the prediction and the data are good."""
    reasons: list[Remark] = []
    level: Confidence = "high"
    found = best.found
    if found.measured_ms is None:
        level = "fair"
        why = best.skip_reason or "nobody has"
        reasons.append(Remark(f"The cell found was not measured: {why}."))
    elif found.predicted_ms is not None:
        off = 100 * (found.predicted_ms / found.measured_ms - 1)
        std = found.predicted_std_ms or 0.0
        inside = abs(found.predicted_ms - found.measured_ms) <= WIDE * std
        level = "high" if inside else "fair"
        within = "within" if inside else "outside"
        text = f"Prediction and measurement differ by {abs(off):.1f} %, {within} twice the ±."
        reasons.append(Remark(text, ("predicted", "measured"), not inside))
    disturbed = best.content.optional_number("measured.visits_disturbed")
    visits = best.content.optional_number("measured.visits")
    if disturbed and visits and disturbed > visits / 2:
        level = "fair" if level == "high" else level
        text = f"{disturbed:.0f} of {visits:.0f} measurements of it were disturbed by other work."
        reasons.append(Remark(text, ("measured",), True))
    metrics = best.content.object("lpm_metrics")
    mape, spearman = metrics.optional_number("mape_percent"), metrics.optional_number("spearman")
    if mape is not None:
        ranks = "" if spearman is None else f" and ranks them with Spearman {spearman:.3f}"
        count = metrics.optional_number("n_test")
        on = "held-out" if count is None else f"{count:.0f} held-out"
        text = f"The LPM is off by {mape:.2f} % in the mean on {on} architectures{ranks}."
        reasons.append(Remark(text, ("measured",)))
    for made in datasets:
        reasons.append(_quality(made))
        if made.check.verdict == "unfit":
            level = "low"
    if best.collapsed:
        level = "low"
        reasons.append(Remark("The search collapsed to skip connections.", (), True))
    if best.scaled:
        level = "fair" if level == "high" else level
        text = "The search was scaled down: another one may find a better cell."
        reasons.append(Remark(text, ("scaled down",), True))
    return level, tuple(reasons)


def _quality(made: MadeDataset) -> Remark:
    summary = made.check.summary
    retest = summary.retest_sd_percent
    repeats = "an unknown error" if retest is None else f"{retest:.2f} %"
    text = (
        f"One measurement repeats to {repeats}; {100 * made.check.disturbed_share:.1f} % were "
        f"disturbed and left out (verdict on {made.name}: {made.check.verdict})."
    )
    return Remark(text, (evidence_of(made),), made.check.verdict == "unfit")


def _of_measurements(device: str, rows: Sequence[MeasuredRow]) -> Headline:
    """The fastest network, and whether the next one is told apart from it."""
    # Networks are compared at one batch, without pauses.
    batch = min(row.batch for row in rows)
    alike = [row for row in rows if row.batch == batch and not row.pause_ms] or list(rows)
    fastest, *others = sorted(alike, key=lambda row: row.latency_ms)
    numbers = [Number("latency", fastest.latency_ms, "ms", ("measured",), fastest.error_ms, 3)]
    rate = fastest.content.optional_number("throughput_per_s")
    if rate is not None:
        numbers.append(Number("throughput", rate, "a second", ("measured",), digits=1))
    best = f"{fastest.label} is the fastest of {len(alike)} measured networks."
    reasons = list(_told_apart(fastest, others))
    flags = fastest.content.texts("flags")
    if flags:
        text = f"Its measurement is flagged: {', '.join(flags)}."
        reasons.append(Remark(text, ("measured",), True))
    doubtful = fastest.error_ms is None or any(reason.warns for reason in reasons)
    level: Confidence = "fair" if doubtful else "high"
    return Headline(device, best, tuple(numbers), level, tuple(reasons))


def _told_apart(fastest: MeasuredRow, others: Sequence[MeasuredRow]) -> Iterator[Remark]:
    if not others or fastest.error_ms is None or others[0].error_ms is None:
        return
    second = others[0]
    gap = second.latency_ms - fastest.latency_ms
    error = float(np.hypot(fastest.error_ms or 0.0, second.error_ms or 0.0))
    apart = gap > error
    yield Remark(
        f"The next one, {second.label}, takes {gap:.3g} ms more; the difference is known to "
        f"± {error:.2g} ms" + ("." if apart else ": they cannot be told apart."),
        ("measured",),
        not apart,
    )


def _of_dataset(device: str, made: MadeDataset) -> Headline:
    usable = made.dataset.usable()
    latency = usable["latency_ms"].to_numpy()
    level: Confidence = {"good": "high", "usable": "fair", "unfit": "low"}[made.check.verdict]  # type: ignore[assignment]
    if not len(latency):
        return Headline(device, "Nothing usable was measured.", (), "low", (_quality(made),))
    row = int(latency.argmin())
    error = made.check.summary.error_percent
    spread = None if error is None else float(latency[row]) * error / 100
    evidence = evidence_of(made)
    return Headline(
        device,
        f"Nothing was searched for. The fastest of {len(latency):,} sampled architectures is "
        f"{usable['arch'][row].as_py()}.",
        (
            Number("latency", float(latency[row]), "ms", (evidence,), spread),
            Number("median", float(np.median(latency)), "ms", (evidence,)),
        ),
        level,
        (_quality(made),),
    )


def _of_lpm(device: str, inputs: Inputs) -> Headline:
    lpm = next(
        lpm for lpm in inputs.lpms if f"{lpm.target.device} ({lpm.target.backend})" == device
    )
    metrics = lpm.card.metrics
    reasons = [Remark(f"{warning}.", (), True) for warning in lpm.warnings]
    numbers: tuple[Number, ...] = ()
    if metrics.get("mape_percent") is not None:
        error = float(metrics["mape_percent"])
        numbers = (Number("error of the LPM (MAPE)", error, "%", (lpm_evidence(lpm),)),)
    return Headline(
        device,
        f"Nothing was searched or measured here: the LPM {lpm.reference} predicts.",
        numbers,
        "low" if reasons else "fair",
        tuple(reasons),
    )
