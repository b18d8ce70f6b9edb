"""The default LPM: a Bayesian linear model of structural features that models its error.

Closed form first (``bayes``); its residual is learnt by a gated ensemble (``residual``) where there
is enough data. Which operations an engine executes at all is not known: the views of the features
compete, and are averaged by how well each predicts rows that were left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from torch import Tensor
from typing_extensions import Self

from latkit.core.errors import LPMError
from latkit.core.events import SILENT, Listener
from latkit.lpm.base import LEVELS, LPM, FloatArray
from latkit.lpm.bayes import LEVELS_OF_NOISE, TAIL, Array, Posterior, fit_bayes
from latkit.lpm.features import StructuralFeatures
from latkit.lpm.kinds import LPM_KINDS
from latkit.lpm.priors import COST, QuantityPrior, prior_for
from latkit.lpm.recipe import Recipe
from latkit.lpm.residual import ResidualEnsemble, fit_residual
from latkit.lpm.rows import Rows
from latkit.lpm.scores import NormalScores
from latkit.lpm.threads import one_thread
from latkit.lpm.transfer import TransferPrior
from latkit.spaces import SearchSpace, Setting, get_space

# How likely a new device is to be a mixture of known ones.
TRANSFER_ODDS = 0.7
# A hypothesis below this is not worth its computation.
MIN_SHARE = 1e-3
# The longest path needs costs to go by.
MIN_ROWS_FOR_PATH = 30
# Rows at which the out-of-fold errors count as much as the assumed tail.
CALIBRATION_ROWS = 50
SCALE_DOUBT = 1.5


@dataclass
class _Model:
    """A linear model: one hypothesis about the engine.

    Attributes:
        view: of the features, which it is a model of.
        transfers: whether the source devices' predictions are among its columns.
        share: its weight in the average.
        weights: of the constant, the features, the longest path (absent: zero) and the source
            devices.
        covariance: of the same.
        path_costs: per edge and operation, what the longest path goes by; zeros: no path.
    """

    view: str
    transfers: bool
    share: float
    weights: Tensor
    covariance: Tensor
    path_costs: Tensor


@LPM_KINDS.register("default")
class DefaultLPM(LPM):
    """The posterior mean and spread of a few linear models; see :meth:`fit`."""

    name = "default"
    learns_from_other_devices = True

    def __init__(
        self,
        features: StructuralFeatures,
        scale: float,
        noise: float,
        quantiles: Tensor,
        models: list[_Model],
        residual: ResidualEnsemble | None,
        transfer: TransferPrior | None = None,
        scores: NormalScores | None = None,
    ) -> None:
        self._features, self._scale, self._noise = features, scale, noise
        self._quantiles, self._models, self._residual = quantiles, models, residual
        self._transfer, self._scores = transfer, scores
        self._served: dict[torch.dtype, list[_Model]] = {}
        self.hyper_parameters = {
            "space": features.space.name,
            "models": [{"view": model.view, "leans": model.transfers} for model in models],
            "features": list(features.views),
            "gate": 0.0 if residual is None else residual.gate,
            "sources": [] if transfer is None else transfer.to_dicts(),
        }

    @classmethod
    @one_thread()
    def fit(cls, rows: Rows, recipe: Recipe, listener: Listener = SILENT) -> Self:
        """Fit in closed form, as far as that goes.

        The setting's shapes are in the features; the seed is of the ensemble that learns the
        residual.

        Raises:
            LPMError: fewer than two rows, a cost is not a positive number, an accuracy is no
                number, or accuracies have a transfer prior.
        """
        if len(rows) < 2:
            raise LPMError(f"{len(rows)} architectures cannot be fitted", "measure more")
        prior, transfer = prior_for(rows.quantity), recipe.transfer
        values = np.asarray(rows.values, dtype=np.float64)
        if not np.isfinite(values).all() or (prior.proportional and (values <= 0).any()):
            kind = "positive number" if prior.proportional else "number"
            raise LPMError(f"a value is not a {kind}", "leave its row out")
        features = StructuralFeatures.of(rows.space, rows.setting)
        x = torch.from_numpy(np.asarray(rows.encodings, dtype=np.float64))
        scores = None
        if prior.proportional:
            scale = _scale(features, x, values)
            values = values / scale
        elif transfer is not None:
            raise LPMError(
                "an accuracy is no device's, to be transferred to another", "leave it out"
            )
        else:
            scores, scale = NormalScores.of(values), 1.0
            values = scores.of_values(values)

        with_transfer = (False,) if transfer is None else (False, True)
        hypotheses = [(view, transfers) for view in features.views for transfers in with_transfer]
        fits, odds = [], []
        for view, transfers in hypotheses:
            source = transfer if transfers else None
            fits.append(_fit_model(features, x, values, view, source, prior))
            odds.append(prior.view_odds[view] * (TRANSFER_ODDS if transfers else 1 - TRANSFER_ODDS))
        score = np.array([fit.posterior.score for fit in fits]) + np.log(odds)
        share = np.exp(score - score.max())
        share[share < MIN_SHARE * share.sum()] = 0
        share /= share.sum()
        models, noise = [], 0.0
        standardized, unit = np.zeros(len(values)), np.zeros(len(values))
        for (view, transfers), fitted, weight in zip(hypotheses, fits, share.tolist(), strict=True):
            if weight:
                weights = torch.from_numpy(fitted.posterior.weights)
                covariance = torch.from_numpy(fitted.posterior.covariance)
                models.append(
                    _Model(view, transfers, weight, weights, covariance, fitted.path_costs)
                )
                standardized += weight * fitted.posterior.standardized
                unit += weight * fitted.posterior.unit
                noise += weight * fitted.posterior.noise
        if not any(model.transfers for model in models):
            transfer = None
        residual = None
        learnt = fit_residual(x, standardized / unit, recipe.seed)
        if learnt is not None:
            residual, out_of_fold = learnt
            standardized = standardized - out_of_fold * unit
        quantiles = _quantiles(standardized)
        return cls(features, scale, noise, quantiles, models, residual, transfer, scores)

    @property
    def gate(self) -> float:
        """How much of the ensemble's correction is used: 0 on an additive engine."""
        return 0.0 if self._residual is None else self._residual.gate

    def mean(self, encodings: Tensor) -> Tensor:
        total = self._total(encodings)
        return total * self._scale if self._scores is None else self._scores.to_values(total)

    def _total(self, encodings: Tensor) -> Tensor:
        """Predictions on the scale of the prior."""
        total = torch.zeros_like(encodings[:, 0])
        for model in self._in(encodings.dtype):
            total = total + model.share * (self._columns(encodings, model) @ model.weights)
        if self._residual is not None:
            level = self._level(total.detach())  # a scale, and no way to the encoding
            total = total + self._noise * level * self._residual(encodings)
        return total

    def half_width(self, encodings: Tensor, level: float) -> Tensor:
        # In double precision: where there is little noise, variances are tiny differences.
        x = encodings.double()
        parts = []
        for model in self._in(x.dtype):
            design = self._columns(x, model)
            predicted = design @ model.weights
            uncertainty = ((design @ model.covariance) * design).sum(1)
            spread = uncertainty.clamp_min(0) + (self._noise * self._level(predicted)) ** 2
            parts.append((model.share, predicted, spread))
        zero = torch.zeros_like(x[:, 0])
        mean = sum((share * predicted for share, predicted, _ in parts), zero)
        variance = torch.zeros_like(mean)
        for share, predicted, spread in parts:
            variance = variance + share * (spread + (predicted - mean) ** 2)
        width = variance.sqrt() * float(self._quantiles[LEVELS.index(level)])
        if self._scores is None:
            width = width * self._scale
        else:
            total = self._total(x)
            width = self._scores.half_width(total - width, total + width)
        return width.to(encodings.dtype)

    def _level(self, values: Tensor) -> Tensor:
        """What the noise is relative to; see ``bayes.noise_level``."""
        return values.clamp(*LEVELS_OF_NOISE) if self._scores is None else torch.ones_like(values)

    def _columns(self, encodings: Tensor, model: _Model) -> Tensor:
        """What a model's weights multiply: ``b x (p + 2)``, and ``S`` more if it transfers."""
        transfer = self._transfer if model.transfers else None
        return _design(self._features, encodings, model.view, model.path_costs, transfer)

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
        if self._transfer is not None:
            tensors |= {f"source.{name}": t for name, t in self._transfer.state().items()}
        if self._residual is not None:
            tensors |= {f"residual.{name}": t for name, t in self._residual.state().items()}
        if self._scores is not None:
            tensors |= {f"scores.{name}": t for name, t in self._scores.state().items()}
        scalars = torch.tensor([self._scale, self._noise], dtype=torch.float64)
        return {**tensors, "scale_and_noise": scalars, "quantiles": self._quantiles}

    @classmethod
    def from_state(cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        space = get_space(str(hyper_parameters["space"]))
        features = StructuralFeatures.from_state(
            space, hyper_parameters["features"], part("features.")
        )
        models = []
        for index, facts in enumerate(hyper_parameters["models"]):
            tensors = part(f"model.{index}.")
            share = float(tensors.pop("share"))
            models.append(_Model(str(facts["view"]), bool(facts["leans"]), share, **tensors))
        if abs(sum(model.share for model in models) - 1) > 1e-6:
            raise ValueError("the shares of its models are not one in all")
        weights = part("residual.")
        residual = ResidualEnsemble(weights, float(hyper_parameters["gate"])) if weights else None
        transfer = None
        if hyper_parameters["sources"]:
            transfer = TransferPrior.from_state(hyper_parameters["sources"], part("source."), cls)
        scale, noise = state["scale_and_noise"].tolist()
        curve = part("scores.")
        scores = NormalScores.from_state(curve) if curve else None
        quantiles = state["quantiles"]
        return cls(features, scale, noise, quantiles, models, residual, transfer, scores)

    def training_facts(self) -> dict[str, Any]:
        return {"gate": self.gate}

    def source_devices(self) -> set[str]:
        return set() if self._transfer is None else self._transfer.devices()


def _design(
    features: StructuralFeatures,
    encodings: Tensor,
    view: str,
    path_costs: Tensor,
    transfer: TransferPrior | None,
) -> Tensor:
    columns = features(encodings, view)
    one = torch.ones_like(columns[:, :1])
    path = torch.zeros_like(one)
    if path_costs.any():
        path = features.longest_path(encodings, path_costs, view)[:, None]
    parts = [one, columns, path]
    if transfer is not None:
        parts.append(transfer.columns(encodings))
    return torch.cat(parts, dim=1)


def prior_of(
    space: SearchSpace, setting: Setting, encodings: Tensor, transfer: TransferPrior | None
) -> tuple[Array, Array, float]:
    """The prior of a cost before anything is measured, of all views together.

    Returns:
        The columns of ``b`` encodings, ``b x k``; the prior variance of each column's weight; the
        noise. All are relative to a median cost of one.
    """
    features = StructuralFeatures.of(space, setting)
    none = torch.zeros(space.num_edges, space.num_operations, dtype=torch.float64)
    designs, variances = [], []
    for view in features.views:
        sources = transfer if view == features.views[0] else None
        design = _design(features, encodings, view, none, sources).numpy()
        variance = np.zeros(design.shape[1])
        for prior in COST.columns(features, sources).values():
            variance[prior.columns] = prior.scale**2
        designs.append(design)
        variances.append(variance * COST.view_odds[view])
    return np.concatenate(designs, axis=1), np.concatenate(variances), COST.noise


def _scale(features: StructuralFeatures, x: Tensor, costs: FloatArray) -> float:
    """The scale: what is one in the prior, in the unit of the values.

    For random architectures it is near their median; chosen ones are no fair sample.
    """
    none = torch.zeros(features.space.num_edges, features.space.num_operations, dtype=torch.float64)
    design = _design(features, x, "all", none, None).numpy()
    mean = np.zeros(design.shape[1])
    for prior in COST.columns(features, None).values():
        mean[prior.columns] = prior.mean
    return float(np.median(np.asarray(costs) / np.maximum(design @ mean, 0.1)))


@dataclass
class _Fit:
    posterior: Posterior
    path_costs: Tensor


def _fit_model(
    features: StructuralFeatures,
    x: Tensor,
    values: Array,
    view: str,
    transfer: TransferPrior | None,
    prior: QuantityPrior,
) -> _Fit:
    space = features.space
    columns = prior.columns(features, transfer)

    def fit(path_costs: Tensor) -> _Fit:
        design = _design(features, x, view, path_costs, transfer).numpy()
        return _Fit(fit_bayes(design, values, columns, prior.noise, prior.proportional), path_costs)

    plain = fit(torch.zeros(space.num_edges, space.num_operations, dtype=torch.float64))
    branches = len({edge.target for edge in space.edges}) < space.num_edges
    if len(values) < MIN_ROWS_FOR_PATH or not branches:
        return plain
    # The longest path is by the costs of operations in the first fit.
    weights = torch.from_numpy(plain.posterior.weights[1 : features.size + 1])
    with_path = fit(features.per_edge_costs(weights).clamp_min(0))
    return with_path if with_path.posterior.score > plain.posterior.score else plain


def _quantiles(standardized: npt.NDArray[np.float64]) -> Tensor:
    """Half-widths of the ``LEVELS``' intervals in standard deviations.

    The tail that the fit assumes, corrected by the out-of-fold errors as far as there are enough.
    """
    n = len(standardized)
    assumed = special.stdtrit(TAIL, 0.5 + np.array(LEVELS) / 2)
    # The fewer rows, the less certain the scales that the evidence has set.
    assumed *= 1 + SCALE_DOUBT / n
    empirical = np.quantile(np.abs(standardized), LEVELS)
    trust = n / (n + CALIBRATION_ROWS)
    return torch.from_numpy((1 - trust) * assumed + trust * empirical)
