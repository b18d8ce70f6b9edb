"""Sub-networks on held-out images, with the weights that they have in the one-shot network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latkit.search.image_source import ImageData
from latkit.search.oneshot.network import OneShotNetwork
from latkit.search.oneshot.subnets import Finding
from latkit.spaces import ChoiceMatrix

EVALUATION = Finding(
    file="subnets.parquet",
    columns=("accuracy_percent", "loss"),
    kept="evaluated sub-networks",
    doing="while sub-networks were evaluated",
    smaller="--eval-batch, --channels or --cells",
    not_finite=(
        "the loss of a sub-network is not finite",
        "train in another --out with a smaller --weight-lr",
    ),
)


@dataclass(frozen=True)
class HeldOut:
    """Held-out images that sub-networks are evaluated on, without the others.

    Attributes:
        data: these images.
        mean, std: of all images, by which these are normalised.
        batch: images of a batch, of which ``data`` is whole ones.
    """

    data: ImageData
    mean: Tensor
    std: Tensor
    batch: int

    @classmethod
    def of(cls, data: ImageData, held_out: Tensor, images: int | None, batch: int) -> HeldOut:
        """The first of the held-out ones; those that do not fill a batch are left out.

        Args:
            data: all images.
            held_out: indices of the held-out ones.
            images: how many of them; None for all.
            batch: images of a batch; all, where there are fewer.
        """
        available = len(held_out) if images is None else min(images, len(held_out))
        batch = min(batch, available)
        chosen = held_out[: available // batch * batch]
        part = dataclasses.replace(data, images=data.images[chosen], labels=data.labels[chosen])
        return cls(part, *data.normalisation(), batch)


class Evaluator:
    """Held-out images in batches that are the same for every sub-network.

    Args:
        network: is evaluated as it then is.
        held_out: the images.
        device: where the network is.

    Attributes:
        images: how many there are.
        batch: images of a batch.
    """

    def __init__(self, network: OneShotNetwork, held_out: HeldOut, device: torch.device) -> None:
        self._network, data = network, held_out.data
        self.batch, self.images = held_out.batch, len(data.labels)
        self._images, self._labels = data.images.to(device), data.labels.to(device)
        self._mean, self._std = held_out.mean.to(device), held_out.std.to(device)

    @torch.inference_mode()
    def __call__(self, row: ChoiceMatrix) -> Tensor:
        """Accuracy in percent and mean loss of a sub-network, 2 float64 on the CPU.

        Args:
            row: the sub-network, of a choice matrix.
        """
        self._network.bn_mode.world = 1  # each process has a sub-network of its own
        totals = torch.zeros(2, dtype=torch.float64, device=self._labels.device)
        batches = zip(self._images.split(self.batch), self._labels.split(self.batch), strict=True)
        for images, labels in batches:
            logits = self._network.logits((images.float() - self._mean) / self._std, row)
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            correct = (logits.argmax(1) == labels).sum()
            totals += torch.stack([100 * correct.double(), loss.double()])
        return totals.cpu() / self.images
