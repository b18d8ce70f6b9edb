"""The transfer prior: LPMs of source devices as a prior for a new device.

Devices differ, but not in every way at once: what a network takes on a new one is mostly some
mixture of what it takes on known ones. So the predictions of the source devices' LPMs, each scaled
to its own median, join the structural features as columns of one more group. The weight of that
group is set by the evidence like every group's scale, so that a device unlike any source device
falls back to the structural prior.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latkit.core.errors import LPMError
from latkit.lpm.base import LPM
from latkit.spaces import SearchSpace

# The scales are medians over the first architectures of this seed's list.
REFERENCE_SIZE = 1024
REFERENCE_SEED = 2**32 + 2


@dataclass(frozen=True)
class TransferPrior:
    """LPMs of source devices, of one space, one quantity and one kind.

    Attributes:
        names: references of the LPMs.
        lpms: the LPMs.
        scales: each one's median prediction.
    """

    names: tuple[str, ...]
    lpms: tuple[LPM, ...]
    scales: tuple[float, ...]

    @classmethod
    def of(cls, space: SearchSpace, sources: Sequence[tuple[str, LPM]]) -> TransferPrior:
        """The prior of LPMs by reference.

        Raises:
            LPMError: there are none, or one predicts what no quantity can be.
        """
        if not sources:
            raise LPMError("there is no source device to transfer from", "name devices with LPMs")
        ids = space.sample(min(REFERENCE_SIZE, space.size), REFERENCE_SEED)
        encodings = space.encode(space.unrank(ids))
        scales = [float(np.median(lpm.predict(encodings))) for _, lpm in sources]
        for (name, _), scale in zip(sources, scales, strict=True):
            if not (np.isfinite(scale) and scale > 0):
                raise LPMError(f"the LPM {name} predicts {scale} at the median", "leave it out")
        names, lpms = zip(*sources, strict=True)
        return cls(names, lpms, tuple(scales))

    def devices(self) -> set[str]:
        """The source devices, and those that their LPMs have a transfer prior of."""
        devices = {name.split("/")[0] for name in self.names}
        return devices.union(*(lpm.source_devices() for lpm in self.lpms))

    def columns(self, encodings: Tensor) -> Tensor:
        """The source LPMs' predictions, each around one: ``b x S``."""
        return torch.stack(
            [
                lpm.mean(encodings) / scale
                for lpm, scale in zip(self.lpms, self.scales, strict=True)
            ],
            dim=1,
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """What :meth:`from_state` needs besides :meth:`state`."""
        return [
            {"name": name, "scale_ms": scale, "hyper_parameters": lpm.hyper_parameters}
            for name, scale, lpm in zip(self.names, self.scales, self.lpms, strict=True)
        ]

    def digest(self) -> str:
        """SHA-256 of the LPMs: another one may have a reference later."""
        facts = json.dumps(self.to_dicts(), sort_keys=True, default=str)
        digest = hashlib.sha256(facts.encode())
        for name, tensor in sorted(self.state().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def state(self) -> dict[str, Tensor]:
        """The source LPMs' weights, by number and name."""
        return {
            f"{index}.{name}": tensor
            for index, lpm in enumerate(self.lpms)
            for name, tensor in lpm.state().items()
        }

    @classmethod
    def from_state(
        cls,
        descriptions: Sequence[Mapping[str, Any]],
        state: Mapping[str, Tensor],
        lpm_class: type[LPM],
    ) -> TransferPrior:
        """The inverse of :meth:`to_dicts` and :meth:`state`.

        Raises:
            KeyError, TypeError, RuntimeError: the state does not fit.
        """
        lpms = []
        for index, description in enumerate(descriptions):
            weights = {
                name.removeprefix(f"{index}."): tensor
                for name, tensor in state.items()
                if name.startswith(f"{index}.")
            }
            lpms.append(lpm_class.from_state(description["hyper_parameters"], weights))
        return cls(
            tuple(str(d["name"]) for d in descriptions),
            tuple(lpms),
            tuple(float(d["scale_ms"]) for d in descriptions),
        )
