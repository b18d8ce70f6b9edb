"""The default LPM: a Bayesian linear model of structural features that knows its error.

Closed form first (``bayes``); what it leaves over is learnt by a gated ensemble (``residual``)
where there is enough data. Which operations an engine executes at all is a question of its own: the
views of the features compete, and are averaged by how well each foretells rows it has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor

from latkit.core.errors import LPMError
from latkit.lpm.base import LEVELS, LPM, FloatArray
from latkit.lpm.bayes import TAIL, USUAL_NOISE, Array, GroupPrior, Posterior, fit_bayes
from latkit.lpm.features import StructuralFeatures
from latkit.lpm.residual import ResidualEnsemble, fit_residual
from latkit.lpm.threads import one_thread
from latkit.lpm.transfer import SourcePrior
from latkit.spaces import SearchSpace, Setting, get_space

# Of costs scaled to a median of one: mean and usual standard deviation of a column's weight.
# The roofline's columns have mean one, so that about a third is the frame's and the rest is shared
# by kernels, convolutions, MACs and bytes; everything else is how an engine departs from that.
CONSTANT = (0.3, 0.05)
PRIORS = {
    "roofline": (0.15, 0.3),
    "operation roofline": (0.0, 0.1),
    "count": (0.0, 0.022),
    "edge": (0.0, 0.003),
    "polynomial": (0.0, 0.006),
    "fan-out": (0.0, 0.001),
    "same source": (0.0, 0.001),
    "same target": (0.0, 0.001),
    "chain": (0.0, 0.001),
}
PATH = (0.0, 0.02)
# With other devices to lean on, their mixture takes the part of the constant and the roofline.
SOURCES_SCALE = 0.3
# How likely an engine is to execute what the view holds, before anything was measured.
VIEW_ODDS = {"all": 0.7, "reaching": 0.15, "live": 0.15}
# How likely a new device is to be a mixture of known ones.
LEANING_ODDS = 0.7
# A hypothesis below this is not worth its computation.
MIN_SHARE = 1e-3
# The longest path needs costs to go by.
MIN_ROWS_FOR_PATH = 30
# Rows at which the errors seen count as much as the assumed tail.
CALIBRATION_ROWS = 50
SCALE_DOUBT = 1.5


@dataclass
class _Model:
    """A linear model: one hypothesis about the engine.

    Attributes:
        view: of the features, which it is a model of.
        leans: whether the sources are among its columns.
        share: its weight in the average.
        weights: of the constant, the features, the longest path (absent: zero) and the sources.
        covariance: of the same.
        path_costs: per edge and operation, what the longest path goes by; zeros: no path.
    """

    view: str
    leans: bool
    share: float
    weights: Tensor
    covariance: Tensor
    path_costs: Tensor


class DefaultLPM(LPM):
    """See :func:`fit_default`."""

    kind = "default"

    def __init__(
        self,
        features: StructuralFeatures,
        scale: float,
        noise: float,
        quantiles: Tensor,
        models: list[_Model],
        residual: ResidualEnsemble | None,
        sources: SourcePrior | None = None,
    ) -> None:
        self._features, self._scale, self._noise = features, scale, noise
        self._quantiles, self._models, self._residual = quantiles, models, residual
        self._sources = sources
        self._served: dict[torch.dtype, list[_Model]] = {}
        self.hyper_parameters = {
            "space": features.space.name,
            "models": [{"view": model.view, "leans": model.leans} for model in models],
            "features": list(features.views),
            "gate": 0.0 if residual is None else residual.gate,
            "sources": [] if sources is None else sources.to_dicts(),
        }

    @property
    def gate(self) -> float:
        """How much of the ensemble's correction is used: 0 on an additive engine."""
        return 0.0 if self._residual is None else self._residual.gate

    def mean(self, encodings: Tensor) -> Tensor:
        total = torch.zeros_like(encodings[:, 0])
        for model in self._in(encodings.dtype):
            total = total + model.share * (self._columns(encodings, model) @ model.weights)
        if self._residual is not None:
            level = total.detach().clamp(0.3, 3.0)  # a scale, and no way to the encoding
            total = total + self._noise * level * self._residual(encodings)
        return total * self._scale

    def half_width(self, encodings: Tensor, level: float) -> Tensor:
        # In double precision: where there is little noise, variances are tiny differences.
        x = encodings.double()
        parts = []
        for model in self._in(x.dtype):
            design = self._columns(x, model)
            own = design @ model.weights
            unsure = ((design @ model.covariance) * design).sum(1)
            spread = unsure.clamp_min(0) + (self._noise * own.clamp(0.3, 3.0)) ** 2
            parts.append((model.share, own, spread))
        mean = sum((share * own for share, own, _ in parts), torch.zeros_like(x[:, 0]))
        variance = torch.zeros_like(mean)
        for share, own, spread in parts:
            variance = variance + share * (spread + (own - mean) ** 2)
        width = variance.sqrt() * self._scale * float(self._quantiles[LEVELS.index(level)])
        return width.to(encodings.dtype)

    def _columns(self, encodings: Tensor, model: _Model) -> Tensor:
        """What a model's weights are of: ``b x (p + 2)``, and ``S`` more if it leans on sources."""
        sources = self._sources if model.leans else None
        return _design(self._features, encodings, model.view, model.path_costs, sources)

    def _in(self, dtype: torch.dtype) -> list[_Model]:
        """The models in the type of the encodings."""
        if dtype not in self._served:
            # What is made in inference mode could not be used for gradients later.
            with torch.inference_mode(False):
                self._served[dtype] = [
                    replace(
                        model,
                        weights=model.weights.to(dtype),
                        covariance=model.covariance.to(dtype),
                        path_costs=model.path_costs.to(dtype),
                    )
                    for model in self._models
                ]
        return self._served[dtype]

    def state(self) -> dict[str, Tensor]:
        tensors = {f"features.{name}": t for name, t in self._features.state().items()}
        for index, model in enumerate(self._models):
            tensors |= {
                f"model.{index}.share": torch.tensor(model.share, dtype=torch.float64),
                f"model.{index}.weights": model.weights,
                f"model.{index}.covariance": model.covariance,
                f"model.{index}.path_costs": model.path_costs,
            }
        if self._sources is not None:
            tensors |= {f"source.{name}": t for name, t in self._sources.state().items()}
        if self._residual is not None:
            tensors |= {f"residual.{name}": t for name, t in self._residual.state().items()}
        scalars = torch.tensor([self._scale, self._noise], dtype=torch.float64)
        return {**tensors, "scale_and_noise": scalars, "quantiles": self._quantiles}

    @classmethod
    def from_state(
        cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> DefaultLPM:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        space = get_space(str(hyper_parameters["space"]))
        features = StructuralFeatures.from_state(
            space, hyper_parameters["features"], part("features.")
        )
        models = []
        for index, facts in enumerate(hyper_parameters["models"]):
            own = part(f"model.{index}.")
            share = float(own.pop("share"))
            models.append(_Model(str(facts["view"]), bool(facts["leans"]), share, **own))
        weights = part("residual.")
        residual = ResidualEnsemble(weights, float(hyper_parameters["gate"])) if weights else None
        sources = None
        if hyper_parameters["sources"]:
            sources = SourcePrior.from_state(hyper_parameters["sources"], part("source."), cls)
        scale, noise = state["scale_and_noise"].tolist()
        return cls(features, scale, noise, state["quantiles"], models, residual, sources)


def _design(
    features: StructuralFeatures,
    encodings: Tensor,
    view: str,
    path_costs: Tensor,
    sources: SourcePrior | None,
) -> Tensor:
    columns = features(encodings, view)
    one = torch.ones_like(columns[:, :1])
    path = torch.zeros_like(one)
    if path_costs.any():
        path = features.longest_path(encodings, path_costs, view)[:, None]
    parts = [one, columns, path]
    if sources is not None:
        parts.append(sources.columns(encodings))
    return torch.cat(parts, dim=1)


def _priors(features: StructuralFeatures, sources: SourcePrior | None) -> dict[str, GroupPrior]:
    """Of the columns of :func:`_design`."""
    end = features.size + 2
    priors = {"constant": GroupPrior(slice(0, 1), *CONSTANT)}
    priors |= {
        group: GroupPrior(slice(where.start + 1, where.stop + 1), *PRIORS[group])
        for group, where in features.groups.items()
    }
    priors["path"] = GroupPrior(slice(end - 1, end), *PATH)
    if sources is not None:
        count = len(sources.lpms)
        for group in ("constant", "roofline"):
            priors[group] = replace(priors[group], mean=0.0)
        scale = SOURCES_SCALE / count**0.5
        priors["sources"] = GroupPrior(slice(end, end + count), 1 / count, scale)
    return priors


def prior_of(
    space: SearchSpace, setting: Setting, encodings: Tensor, sources: SourcePrior | None
) -> tuple[Array, Array, float]:
    """What is believed before anything is measured, of all views together.

    Returns:
        The columns of ``b`` encodings, ``b x k``; the prior variance of each column's weight; the
        noise. All are relative to a median cost of one.
    """
    features = StructuralFeatures.of(space, setting)
    none = torch.zeros(space.num_edges, space.num_operations, dtype=torch.float64)
    designs, variances = [], []
    for view in features.views:
        leaning = sources if view == features.views[0] else None
        design = _design(features, encodings, view, none, leaning).numpy()
        variance = np.zeros(design.shape[1])
        for prior in _priors(features, leaning).values():
            variance[prior.columns] = prior.scale**2
        designs.append(design)
        variances.append(variance * VIEW_ODDS[view])
    return np.concatenate(designs, axis=1), np.concatenate(variances), USUAL_NOISE


def _scale(features: StructuralFeatures, x: Tensor, costs: FloatArray) -> float:
    """What the prior calls one, in the unit of the costs.

    For random architectures it is near their median; chosen ones are no fair sample.
    """
    none = torch.zeros(features.space.num_edges, features.space.num_operations, dtype=torch.float64)
    design = _design(features, x, "all", none, None).numpy()
    mean = np.zeros(design.shape[1])
    for prior in _priors(features, None).values():
        mean[prior.columns] = prior.mean
    return float(np.median(np.asarray(costs) / np.maximum(design @ mean, 0.1)))


@one_thread()
def fit_default(
    space: SearchSpace,
    setting: Setting,
    encodings: FloatArray,
    costs: FloatArray,
    seed: int,
    sources: SourcePrior | None = None,
) -> DefaultLPM:
    """Fit the default LPM, in closed form as far as that goes.

    Args:
        space: the space.
        setting: of the networks; its shapes are in the features.
        encodings: ``n x E*O`` zeros and ones, ``n >= 2``.
        costs: ``n`` positive numbers of one unit.
        seed: of the ensemble that learns what is left over.
        sources: other devices' LPMs to lean on.

    Raises:
        LPMError: too few rows.
    """
    if len(costs) < 2:
        raise LPMError(f"{len(costs)} architectures cannot be fitted", "measure more")
    if not (np.isfinite(costs).all() and (np.asarray(costs) > 0).all()):
        raise LPMError("a cost is not a positive number", "leave its row out")
    features = StructuralFeatures.of(space, setting)
    x = torch.from_numpy(np.asarray(encodings, dtype=np.float64))
    scale = _scale(features, x, costs)
    values = np.asarray(costs, dtype=np.float64) / scale

    leanings = (False,) if sources is None else (False, True)
    hypotheses = [(view, leans) for view in features.views for leans in leanings]
    fits, odds = [], []
    for view, leans in hypotheses:
        fits.append(_fit_model(features, x, values, view, sources if leans else None))
        odds.append(VIEW_ODDS[view] * (LEANING_ODDS if leans else 1 - LEANING_ODDS))
    score = np.array([fit.posterior.score for fit in fits]) + np.log(odds)
    share = np.exp(score - score.max())
    share[share < MIN_SHARE * share.sum()] = 0
    share /= share.sum()
    models, noise = [], 0.0
    standardized, unit = np.zeros(len(values)), np.zeros(len(values))
    for (view, leans), fitted, weight in zip(hypotheses, fits, share.tolist(), strict=True):
        if weight:
            weights = torch.from_numpy(fitted.posterior.weights)
            covariance = torch.from_numpy(fitted.posterior.covariance)
            models.append(_Model(view, leans, weight, weights, covariance, fitted.path_costs))
            standardized += weight * fitted.posterior.standardized
            unit += weight * fitted.posterior.unit
            noise += weight * fitted.posterior.noise
    if not any(model.leans for model in models):
        sources = None
    residual = None
    learnt = fit_residual(x, standardized / unit, seed)
    if learnt is not None:
        residual, said = learnt
        standardized = standardized - said * unit
    quantiles = _quantiles(standardized)
    return DefaultLPM(features, scale, noise, quantiles, models, residual, sources)


@dataclass
class _Fit:
    posterior: Posterior
    path_costs: Tensor


def _fit_model(
    features: StructuralFeatures, x: Tensor, values: Array, view: str, sources: SourcePrior | None
) -> _Fit:
    space = features.space
    costs = torch.zeros(space.num_edges, space.num_operations, dtype=torch.float64)
    priors = _priors(features, sources)
    plain = _Fit(
        fit_bayes(_design(features, x, view, costs, sources).numpy(), values, priors), costs
    )
    branches = len({edge.target for edge in space.edges}) < space.num_edges
    if len(values) < MIN_ROWS_FOR_PATH or not branches:
        return plain
    # What the first fit says an operation costs is what the longest path goes by.
    weights = torch.from_numpy(plain.posterior.weights[1 : features.size + 1])
    costs = features.per_edge_costs(weights).clamp_min(0)
    with_path = fit_bayes(_design(features, x, view, costs, sources).numpy(), values, priors)
    return _Fit(with_path, costs) if with_path.score > plain.posterior.score else plain


def _quantiles(standardized: npt.NDArray[np.float64]) -> Tensor:
    """Half-widths of the ``LEVELS``' intervals in standard deviations.

    The tail that the fit assumes, corrected by the errors seen as far as there are enough.
    """
    n = len(standardized)
    assumed = stats.t.ppf(0.5 + np.array(LEVELS) / 2, TAIL)
    # The fewer rows, the less certain the scales that the evidence has set.
    assumed *= 1 + SCALE_DOUBT / n
    seen = np.quantile(np.abs(standardized), LEVELS)
    trust = n / (n + CALIBRATION_ROWS)
    return torch.from_numpy((1 - trust) * assumed + trust * seen)
