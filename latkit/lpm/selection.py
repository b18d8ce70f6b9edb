"""Which architectures to measure next."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from latkit.lpm.default import prior_of
from latkit.lpm.threads import one_thread
from latkit.lpm.transfer import TransferPrior
from latkit.spaces import SearchSpace, Setting

# More candidates than this are not looked at; the first are as random as any.
MAX_CANDIDATES = 4096


@one_thread()
def choose_active(
    space: SearchSpace,
    setting: Setting,
    encodings: npt.NDArray[np.floating],
    n: int,
    transfer: TransferPrior | None = None,
) -> npt.NDArray[np.int64]:
    """The ``n`` most informative rows, one after the other: each where the model is least sure.

    The variance of a Gaussian posterior depends on what was measured where and not on the result,
    so the choice needs no latencies and is the same for every device.

    Args:
        space: the space.
        setting: of the networks.
        encodings: ``m x E*O`` candidates.
        n: how many, at most ``m``.
        transfer: LPMs of source devices, whose columns are part of the prior.

    Returns:
        Row numbers in the order of choice.
    """
    candidates = torch.from_numpy(np.asarray(encodings[:MAX_CANDIDATES], dtype=np.float64))
    design, variance, noise = prior_of(space, setting, candidates, transfer)
    # Columns scaled so that the prior is the identity; then the variances are updated one by one.
    scaled = design * np.sqrt(variance)
    variances = (scaled**2).sum(1)
    directions = np.zeros((len(scaled), min(n, len(scaled))))
    chosen: list[int] = []
    for step in range(min(n, len(scaled))):
        best = int(np.argmax(variances))
        chosen.append(best)
        # Of all candidates, the covariance with the chosen one given those before.
        covariance = scaled @ scaled[best] - directions[:, :step] @ directions[best, :step]
        directions[:, step] = covariance / np.sqrt(variances[best] + noise**2)
        variances = variances - directions[:, step] ** 2
        variances[chosen] = -np.inf
    rest = np.setdiff1d(np.arange(len(encodings)), chosen)[: n - len(chosen)]
    return np.concatenate([np.array(chosen, dtype=np.int64), rest])
