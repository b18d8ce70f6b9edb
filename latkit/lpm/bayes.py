"""A linear model in closed form whose posterior is wide where there is little data.

Weights have independent normal priors whose scales are shared within groups of columns; the scales
and the noise are set by the evidence (the probability of the data under the prior), pulled towards
what is usual. Noise is proportional to the value, or the same for all, and heavy-tailed: rows are
weighted by Student's t of their leave-one-out errors, so that a few outliers do not move the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize, special

Array = npt.NDArray[np.float64]

# Student's t: fewer degrees of freedom trust outliers less.
TAIL = 3.0
# Scales are looked for with at most so many rows; a few numbers need no more.
EVIDENCE_ROWS = 256
# How far, in logarithm, scales and noise may be from what is usual (a standard deviation).
FREEDOM = 0.6
USUAL_NOISE = 0.01
# Proportional noise neither vanishes with a value nor grows without end.
LEVELS_OF_NOISE = (0.3, 3.0)
ROUNDS = 4


@dataclass(frozen=True)
class GroupPrior:
    """The prior of a group of columns.

    Attributes:
        columns: where they stand.
        mean: of each weight.
        scale: the usual standard deviation of each weight around it.
    """

    columns: slice
    mean: float
    scale: float


@dataclass(frozen=True)
class Posterior:
    """The posterior of the weights.

    Attributes:
        weights: ``p`` means.
        covariance: ``p x p``.
        noise: standard deviation of an observation, relative to its mean where it is proportional.
        score: log probability of each row given the others, summed: the larger, the better.
        standardized: of each row, its error when left out, in standard deviations.
        unit: of each row, its noise as a share of that standard deviation.
        scales: by group, as the evidence has set them.
    """

    weights: Array
    covariance: Array
    noise: float
    score: float
    standardized: Array
    unit: Array
    scales: dict[str, float]


def noise_level(values: Array, proportional: bool) -> Array:
    """What the noise is relative to: values of about one, or one where it is the same for all."""
    return np.clip(values, *LEVELS_OF_NOISE) if proportional else np.ones_like(values)


def fit_bayes(
    features: Array,
    values: Array,
    priors: Mapping[str, GroupPrior],
    usual_noise: float = USUAL_NOISE,
    proportional: bool = True,
) -> Posterior:
    """The posterior of the weights.

    Args:
        features: ``n x p``; the constant is a column like any other.
        values: ``n`` numbers, of about one where the noise is proportional to them.
        priors: of all columns.
        usual_noise: standard deviation of the noise that the evidence's is pulled to.
        proportional: whether the noise is relative to the values, rather than the same for all.
    """
    n, p = features.shape
    mean, group_of = np.zeros(p), np.zeros(p, dtype=np.int64)
    for index, prior in enumerate(priors.values()):
        mean[prior.columns], group_of[prior.columns] = prior.mean, index
    usual = np.log([prior.scale for prior in priors.values()])
    center = np.concatenate([usual, [np.log(usual_noise)]])
    state = center
    some = np.random.default_rng(0).permutation(n)[:EVIDENCE_ROWS]
    kernels = [
        features[some][:, group_of == index] @ features[some][:, group_of == index].T
        for index in range(len(priors))
    ]
    rest = values - features @ mean
    trust, level = np.ones(n), noise_level(values, proportional)
    expected = level
    for turn in range(ROUNDS):
        spread = level**2 / trust  # relative variance of each row's noise
        steps = 25 if turn == 0 else 8
        state = _maximize_evidence(state, center, kernels, rest[some], spread[some], steps)
        prior_variance = np.exp(2 * state[:-1])[group_of]
        noise = float(np.exp(state[-1]))
        error, variance, weights, covariance = _solve(
            features, rest, prior_variance, noise**2 * spread
        )
        # With ordinary noise of the row itself, whatever its weight was.
        deviation = np.sqrt(variance + noise**2 * (level**2 - spread))
        standardized = error / deviation
        expected = level
        trust = (TAIL + 1) / (TAIL + standardized**2)
        level = noise_level(features @ (mean + weights), proportional)
    return Posterior(
        mean + weights,
        covariance,
        noise,
        float(_log_student(standardized).sum() - np.log(deviation).sum()),
        standardized,
        noise * expected / deviation,
        dict(zip(priors, np.exp(state[:-1]).tolist(), strict=True)),
    )


def _solve(
    features: Array, rest: Array, prior_variance: Array, noise_variance: Array
) -> tuple[Array, Array, Array, Array]:
    """Leave-one-out errors and their variances, and the weights and their covariance.

    Whichever of the two matrices is smaller is inverted.
    """
    n, p = features.shape
    if n < p:
        scaled = features * prior_variance
        inverse = _invert(scaled @ features.T + np.diag(noise_variance))
        dual = inverse @ rest
        covariance = np.diag(prior_variance) - scaled.T @ inverse @ scaled
        diagonal = np.diag(inverse)
        return dual / diagonal, 1 / diagonal, scaled.T @ dual, covariance
    weighted = features / noise_variance[:, None]
    covariance = _invert(weighted.T @ features + np.diag(1 / prior_variance))
    weights = covariance @ (weighted.T @ rest)
    leverage = ((features @ covariance) * weighted).sum(1)
    left = 1 - np.minimum(leverage, 1 - 1e-9)
    return (rest - features @ weights) / left, noise_variance / left, weights, covariance


def _invert(matrix: Array) -> Array:
    """The inverse of a positive definite matrix, which rounding may have made singular."""
    jitter = 1e-12 * np.trace(matrix) / len(matrix)
    factor = linalg.cho_factor(matrix + jitter * np.eye(len(matrix)), lower=True)
    return np.asarray(linalg.cho_solve(factor, np.eye(len(matrix))))


def _maximize_evidence(
    start: Array, center: Array, kernels: list[Array], rest: Array, spread: Array, steps: int
) -> Array:
    """Logarithms of the groups' scales and of the noise; ``center`` has the usual ones."""

    def objective(state: Array) -> tuple[float, Array]:
        squares = np.exp(2 * state)
        matrix = np.diag(squares[-1] * spread)
        for square, kernel in zip(squares, kernels, strict=False):
            matrix += square * kernel
        factor = linalg.cho_factor(matrix, lower=True)
        inverse = linalg.cho_solve(factor, np.eye(len(rest)))
        dual = inverse @ rest
        away = (state - center) / FREEDOM
        value = 0.5 * rest @ dual + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        slopes = [np.vdot(inverse, k) - dual @ k @ dual for k in kernels]
        slopes.append(np.diag(inverse) @ spread - dual**2 @ spread)
        return float(value), squares * np.array(slopes) + away / FREEDOM

    # Bounds keep the matrix well conditioned; nobody's scales are further from usual.
    bounds = [(c - 6, c + 3) for c in center]
    found = optimize.minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}
    )
    return np.asarray(found.x)


def _log_student(values: Array) -> Array:
    """Log-density of Student's t of ``TAIL`` degrees; ``scipy.stats`` takes long to import."""
    log_norm = special.gammaln((TAIL + 1) / 2) - special.gammaln(TAIL / 2)
    log_norm -= 0.5 * np.log(TAIL * np.pi)
    return np.asarray(log_norm - (TAIL + 1) / 2 * np.log1p(values**2 / TAIL))
