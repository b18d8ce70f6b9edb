"""The built-in LPM of the paper's device, a Tesla P100, from the published latencies.

Nothing here was measured by latkit. The paper publishes the latencies of eleven networks made of
cells whose genotypes are published as well (Tables 2 and 5). They differ in depth, width,
resolution and reduction cell, so the model is one of whole networks: a time for each kernel,
convolution, multiply-add and byte, fitted by the method of the ``default`` LPM. Its rates then cost
the operations of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latkit.core.quantities import LATENCY
from latkit.core.storage import Storage
from latkit.core.version import __version__
from latkit.dataset import Target
from latkit.lpm import builtin_lpms
from latkit.lpm.base import FloatArray
from latkit.lpm.bayes import GroupPrior, fit_bayes
from latkit.lpm.linear import LookupTableLPM
from latkit.lpm.metrics import prediction_metrics
from latkit.lpm.store import LPMCard, write_lpm
from latkit.lpm.training import TrainedLPM
from latkit.spaces import Setting, get_preset, get_space
from latkit.spaces.analytic import COLUMNS
from latkit.spaces.darts.analytic import network_columns
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.zoo import get_genotype
from latkit.spaces.registry import analytic_table

DEVICE, BACKEND = "p100", "torch-cuda"
WARNING = (
    "this p100 LPM was not measured by latkit: it is fitted to the 11 latencies that the LA-DARTS "
    "paper prints, and its error is that of leaving one cell out; to replace it, run latkit "
    "profile --device p100 on the card, and latkit train-lpm"
)

_CIFAR = get_preset("cifar").replace(memory_format="nchw")
_IMAGENET = get_preset("paper")


@dataclass(frozen=True)
class PublishedLatency:
    """A published latency.

    Attributes:
        cell: of the zoo.
        setting: of the network.
        latency_ms: as published, at the setting's batch.
        source: where.
    """

    cell: str
    setting: Setting
    latency_ms: float
    source: str


PUBLISHED = (
    *(
        PublishedLatency(cell, _CIFAR, latency_ms, "Xu et al., Table 2")
        for cell, latency_ms in (
            ("darts_v1", 36.5), ("darts_v2", 40.9), ("snas_mild", 30.2), ("p_darts_cifar", 40.9),
            ("gdas", 30.6), ("pc_darts_cifar", 40.7),
        )
    ),
    *(
        PublishedLatency(
            cell, _IMAGENET.replace(channels=channels), latency_ms,
            "Xu et al., Table 5",
        )
        for cell, channels, latency_ms in (
            ("darts_v2", 48, 28.5), ("snas_mild", 48, 21.4), ("p_darts_cifar", 48, 29.0),
            ("gdas", 50, 32.2), ("pc_darts_imagenet", 48, 31.7),
        )
    ),
)  # fmt: skip

TARGET = Target("darts", DEVICE, BACKEND, _IMAGENET)

# Mean and usual standard deviation of the share of a column in a mean latency of one.
_SHARE = (0.25, 0.25)


def write_builtin() -> None:
    """Write the LPM into the package, as the file that is shipped."""
    trained = builtin_lpm()
    folder = Path(builtin_lpms.__file__).parent
    (folder / DEVICE).mkdir(exist_ok=True)
    write_lpm(Storage(str(folder)), DEVICE, trained.lpm, trained.card)


def builtin_lpm() -> TrainedLPM:
    """The LPM, fitted anew: it takes a moment and is always the same."""
    design = np.stack([_network_columns(get_genotype(p.cell), p.setting) for p in PUBLISHED])
    scale = design.mean(0)
    measured = np.array([p.latency_ms for p in PUBLISHED])
    rates = _fit(design / scale, measured) / scale
    target = TARGET
    space = get_space("darts")
    table = _table(target.setting)
    some = space.unrank(0)
    network = _network_columns(space.architecture(some[0], target.setting.network), target.setting)
    # Rounded, so that the LPM is the same to the bit whatever library did the sums.
    entries = _rounded((table @ rates).reshape(-1))
    constant = float(_rounded(network @ rates - space.encode(some)[0] @ entries))
    lpm = LookupTableLPM(constant, torch.from_numpy(entries))

    left_out = _leave_one_cell_out(design / scale, measured)
    lpm.calibrate(_rounded(left_out - measured))
    in_target = [p.setting.resolution == target.setting.resolution for p in PUBLISHED]
    latency_range = measured[in_target]
    macs = design[:, [COLUMNS.index("macs")]]
    line = np.concatenate([np.ones_like(macs), macs / macs.mean()], axis=1)
    card = LPMCard(
        kind=lpm.name,
        cost=LATENCY,
        target=target,
        fingerprint={"gpu": "Tesla P100, as the paper says; nothing was measured by latkit"},
        dataset={
            "digest": "published",
            "rows": len(PUBLISHED),
            "rows_left_out": 0,
            "architectures": len({p.cell for p in PUBLISHED}),
            "retest_sd_percent": None,
            "latency_range_ms": [float(latency_range.min()), float(latency_range.max())],
            "protocol": {},
            "anchor": None,
            "anchor_median_ms": None,
            "published": [
                {
                    "cell": p.cell, "setting": p.setting.slug, "latency_ms": p.latency_ms,
                    "source": p.source,
                }
                for p in PUBLISHED
            ],
        },
        metrics=_judge(left_out, measured),
        baselines={"macs_only": _judge(_leave_one_cell_out(line, measured), measured)},
        training={"kind": "published", "judged_by": "leaving one cell out", "warning": WARNING},
        hyper_parameters=lpm.hyper_parameters,
        latkit_version=__version__,
        created_at="2026-11-24T00:00:00+00:00",
    )  # fmt: skip
    return TrainedLPM(lpm, card)


def _judge(predicted: FloatArray, measured: FloatArray) -> dict[str, Any]:
    """Metrics of the leave-one-out predictions; no rows are left to judge the intervals."""
    return prediction_metrics(predicted, measured).to_dict() | {"n_train": len(PUBLISHED)}


def _fit(columns: FloatArray, measured: FloatArray) -> FloatArray:
    """Rates of columns of mean one, in ms."""
    scale = float(np.median(measured))
    prior = {"all": GroupPrior(slice(0, columns.shape[1]), *_SHARE)}
    return np.asarray(fit_bayes(columns, measured / scale, prior).weights * scale)


def _leave_one_cell_out(columns: FloatArray, measured: FloatArray) -> FloatArray:
    """Predictions of each latency from those of other cells alone."""
    cells = np.array([p.cell for p in PUBLISHED])
    predicted = np.empty(len(measured))
    for cell in set(cells.tolist()):
        left_out = cells == cell
        predicted[left_out] = columns[left_out] @ _fit(columns[~left_out], measured[~left_out])
    return predicted


def _table(setting: Setting) -> FloatArray:
    """The columns of a run of each operation on each edge; weights are read once a run."""
    table = analytic_table("darts", setting.network).operations
    per_run = table[:, :, :4] * _per_run(setting)
    params = table[:, :, COLUMNS.index("params")]
    per_run[:, :, 3] -= 4 * params * (setting.batch - 1)
    return np.asarray(per_run)


def _rounded(values: FloatArray | float) -> FloatArray:
    """To six significant digits."""
    return np.vectorize(lambda value: float(f"{value:.6g}"))(values)  # type: ignore[no-any-return]


def _per_run(setting: Setting) -> FloatArray:
    """From one image to a run of a batch: kernels do not become more."""
    return np.array([1, 1, setting.batch, setting.batch], dtype=np.float64)


def _network_columns(genotype: Genotype, setting: Setting) -> FloatArray:
    """Kernels, convolutions, MACs and bytes of a run of a whole network."""
    assert isinstance(setting.network, DartsConfig)
    columns, params = network_columns(genotype, setting.network)
    run = columns * _per_run(setting)
    run[3] += 4 * params  # weights are read once a run
    return np.asarray(run)
