"""How good the estimators of LAT(α) and its gradient are, and what they cost. Prints JSON,
progress to stderr.

    python benchmarks/lat_gradient.py > benchmarks/results/DATE-lat-gradient.json

Sections: ``small`` (the edges into two nodes of a DARTS cell, the rest of it fixed, against exact
enumeration), ``darts`` (the DARTS space, against the marginal estimator with very many samples,
which is an estimate and labelled so). Both with LPMs of the ``default`` and the ``paper`` kind,
fitted to a simulated device (``benchmarks/lpm.py``), and three kinds of α: near uniform, as in
mid-search, near one-hot.

Of ``repeats`` estimates, each of M samples: the mean over estimates of the cosine of the gradient
to the reference and of its norm over the reference's (``_of_1``), the same of the mean gradient of
ten successive estimates (``_of_10``) and of all (``_of_all``: the bias that remains), the variance
of the gradient (sum over entries, over the squared norm of the reference), the bias and standard
deviation of the value, CPU milliseconds a call with the gradient.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import torch
from lpm import simulated_ms
from torch import Tensor

from latkit.core.device import cpu_name
from latkit.lpm.default import DefaultLPM
from latkit.lpm.paper import PaperLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.search.estimators import ESTIMATORS, get_estimator, strength_of
from latkit.search.objectives import Objective, PredictedObjective
from latkit.spaces import ABSENT, Group, SearchSpace, get_preset, get_space

# Entries of α: standard deviation of a normal distribution.
ALPHAS = {"near uniform": 0.01, "mid-search": 1.0, "near one-hot": 5.0}
EDGES = ("uniform", "strength")
DARTS = get_space("darts")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# The edges into the second and third node of a DARTS cell; 3 * 6 * 7^4 = 43,218 architectures.
SMALL = SearchSpace(
    "small",
    DARTS.operations,
    DARTS.choices,
    [edge for edge in DARTS.edges if edge.target in (3, 4)],
    [Group((0, 1, 2), 2), Group((3, 4, 5, 6), 2)],
)
FIRST = next(i for i, edge in enumerate(DARTS.edges) if edge.target == 3)


class Embedded(Objective):
    """A cost of DARTS cells, on :data:`SMALL`: the rest of the cell is fixed."""

    def __init__(self, cost: Objective) -> None:
        self.quantity, self.unit, self._cost = cost.quantity, cost.unit, cost
        self._rest = torch.zeros(DARTS.num_edges, DARTS.num_operations)
        for index, edge in enumerate(DARTS.edges):
            if edge.target == 2 or (edge.target == 5 and edge.source in (3, 4)):
                self._rest[index, DARTS.operations.index("sep_conv_3x3")] = 1

    def __call__(self, encodings: Tensor) -> Tensor:
        whole = self._rest.to(encodings).repeat(len(encodings), 1, 1)
        own = encodings.view(-1, SMALL.num_edges, SMALL.num_operations)
        whole[:, FIRST : FIRST + SMALL.num_edges] = own
        return self._cost(whole.flatten(1))


def lpms() -> dict[str, PredictedObjective]:
    """LPMs of a device with a critical path, fusion and memory pressure; simulated."""
    matrix = DARTS.unrank(DARTS.sample(2000, 0))
    truth = simulated_ms(DARTS, matrix, additive=False)
    noisy = truth * (1 + 0.02 * np.random.default_rng(1).normal(size=len(truth)))
    x = DARTS.encode(matrix).astype(np.float64)
    test = DARTS.unrank(DARTS.sample(1000, 0, start=2000))
    rows = Rows(DARTS, get_preset("imagenet"), x, noisy)
    fitted = {
        "default": DefaultLPM.fit(rows, Recipe()),
        "paper": PaperLPM.fit(rows, Recipe("paper")),
    }
    for name, lpm in fitted.items():
        error = np.abs(lpm.predict(DARTS.encode(test)) / simulated_ms(DARTS, test, False) - 1)
        say(f"LPM {name}: MAPE {100 * error.mean():.2f} %")
    return {name: PredictedObjective(lpm) for name, lpm in fitted.items()}


def exact(space: SearchSpace, alpha: Tensor, cost: Objective, edges: str) -> Tensor:
    """E[cost] by enumeration."""
    matrix = torch.from_numpy(space.unrank(np.arange(space.size)).astype(np.int64))
    choices = list(space.choices)
    operations = torch.zeros_like(alpha)
    operations[:, choices] = alpha[:, choices].softmax(1)
    picked = operations[torch.arange(space.num_edges), matrix.clamp_min(0)]
    weight = torch.where(matrix == ABSENT, 1.0, picked).prod(1)
    strength = strength_of(space, alpha) if edges == "strength" else torch.ones(space.num_edges)
    for group, sets in zip(space.groups, space.kept_combinations, strict=True):
        columns = list(group.edges)
        own = torch.where(matrix[:, columns] == ABSENT, 1.0, strength.to(alpha)[columns]).prod(1)
        weight = weight * own / strength.to(alpha)[torch.from_numpy(sets)].prod(1).sum()
    with torch.no_grad():
        encodings = torch.from_numpy(space.encode(matrix.numpy()))
        costs = torch.cat([cost(part) for part in encodings.split(2048)])
    return weight @ costs.to(alpha)


def many_samples(rounds: int, samples: int) -> Callable[..., Tensor]:
    """The marginal estimate of very many samples, as a stand-in for the truth."""

    def reference(space: SearchSpace, alpha: Tensor, cost: Objective, edges: str) -> Tensor:
        generator = torch.Generator().manual_seed(2026)
        parts = []
        for _ in range(rounds):
            strength = strength_of(space, alpha) if edges == "strength" else None
            parts.append(
                get_estimator("marginal")(space, alpha, cost, samples, generator, strength)
            )
        return torch.stack(parts).mean()

    return reference


def measure(
    space: SearchSpace,
    name: str,
    alpha: Tensor,
    cost: Objective,
    edges: str,
    truth: tuple[float, Tensor],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The numbers of one estimator at one α."""
    generator = torch.Generator().manual_seed(1)
    values, slopes, seconds = [], [], []
    for _ in range(arguments.repeats):
        # Thread CPU time: the machine is shared.
        started = time.thread_time()
        strength = strength_of(space, alpha) if edges == "strength" else None
        value = get_estimator(name)(space, alpha, cost, arguments.samples, generator, strength)
        (slope,) = torch.autograd.grad(value, alpha)
        seconds.append(time.thread_time() - started)
        values.append(float(value.detach()))
        slopes.append(slope.flatten().double())
    gradients, target = torch.stack(slopes), truth[1].flatten().double()
    size = target.norm()
    result: dict[str, Any] = {}
    for average in (1, 10):
        means = gradients[: len(gradients) // average * average]
        means = means.view(-1, average, means.shape[1]).mean(1)
        cosine = torch.cosine_similarity(means, target[None], dim=1)
        ratio = means.norm(dim=1) / size
        result[f"cosine_of_{average}"] = float(cosine.mean())
        result[f"norm_ratio_of_{average}"] = float(ratio.mean())
    overall = gradients.mean(0)
    result |= {
        "cosine_of_all": float(torch.cosine_similarity(overall, target, dim=0)),
        "norm_ratio_of_all": float(overall.norm() / size),
        "gradient_variance": float(gradients.var(0).sum() / size**2),
        "value_bias_percent": 100 * (float(np.mean(values)) / truth[0] - 1),
        "value_sd_percent": 100 * float(np.std(values)) / truth[0],
        "cpu_ms_per_call": 1000 * float(np.median(seconds)),
    }
    return result


def section(
    space: SearchSpace,
    costs: dict[str, Objective],
    reference: Callable[..., Tensor],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for lpm, cost in costs.items():
        for which, scale in ALPHAS.items():
            draw = torch.Generator().manual_seed(7)
            alpha = scale * torch.randn(space.num_edges, space.num_operations, generator=draw)
            alpha.requires_grad_()
            for edges in EDGES:
                value = reference(space, alpha, cost, edges)
                (slope,) = torch.autograd.grad(value, alpha)
                truth = (float(value.detach()), slope)
                own = {
                    name: measure(space, name, alpha, cost, edges, truth, arguments)
                    for name in ESTIMATORS.names()
                }
                result[f"{lpm}, {which}, {edges} edges"] = {"lat_ms": truth[0], **own}
                line = ", ".join(f"{n} {m['cosine_of_1']:.3f}" for n, m in own.items())
                say(f"{space.name}: LPM {lpm}, {which}, {edges} edges: cosine {line}")
    return result


def cost_alone(cost: Objective, samples: int) -> dict[str, float]:
    """CPU milliseconds of the LPM by itself on as many cells as an estimate asks for."""
    result = {}
    with torch.no_grad():
        for name, n in (("samples", samples), ("marginal", samples * (1 + 8 * 6))):
            encodings = torch.from_numpy(DARTS.encode(DARTS.unrank(DARTS.sample(n, 5))))
            seconds = []
            for _ in range(20):
                started = time.thread_time()
                cost(encodings)
                seconds.append(time.thread_time() - started)
            result[f"{n} cells ({name})"] = 1000 * float(np.median(seconds))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--reference-rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    costs = lpms()
    embedded: dict[str, Objective] = {name: Embedded(cost) for name, cost in costs.items()}
    rounds = arguments.reference_rounds
    result = {
        "date": date.today().isoformat(),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": 1,
        "samples": arguments.samples,
        "repeats": arguments.repeats,
        "device": "simulated: critical path, fusion, memory pressure (benchmarks/lpm.py)",
        "small": {
            "reference": f"exact: all {SMALL.size} architectures",
            **section(SMALL, embedded, exact, arguments),
        },
        "darts": {
            "reference": f"an estimate: marginal with {rounds} x 500 samples; not exact",
            "lpm_alone_cpu_ms": {n: cost_alone(c, arguments.samples) for n, c in costs.items()},
            **section(DARTS, dict(costs), many_samples(rounds, 500), arguments),
        },
    }
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
