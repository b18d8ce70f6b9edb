"""Sub-networks on held-out images, with the weights that they have in the one-shot network."""

from __future__ import annotations

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


class Evaluator:
    """Held-out images in batches that are the same for every sub-network.

    Args:
        network: is evaluated as it then is.
        data: the images.
        held_out: indices of the held-out ones, of which the first are taken; those that do not fill
            a batch are left out.
        images: how many of them; None for all.
        batch: images of a batch; all, where there are fewer.
        device: where the network is.

    Attributes:
        images: how many there are.
        batch: images of a batch.
    """

    def __init__(
        self,
        network: OneShotNetwork,
        data: ImageData,
        held_out: Tensor,
        images: int | None,
        batch: int,
        device: torch.device,
    ) -> None:
        self._network = network
        available = len(held_out) if images is None else min(images, len(held_out))
        self.batch = min(batch, available)
        self.images = available // self.batch * self.batch
        chosen = held_out[: self.images]
        self._images, self._labels = data.images[chosen].to(device), data.labels[chosen].to(device)
        self._mean, self._std = (part.to(device) for part in data.normalisation())

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
