"""Everything that decides a training besides architecture, network, data and seed."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from latkit.core.errors import InputError
from latkit.core.requests import MOST_COUNT
from latkit.spaces.setting import check_one_of

SCHEDULES = ("cosine", "linear")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; the defaults are the paper's on CIFAR-10 (section 4.1).

    Attributes:
        epochs: passes over the training images.
        batch: images of a step, over all processes.
        lr: largest learning rate of SGD.
        schedule: how it falls to 0: by half a ``cosine``, or ``linear``.
        warmup_epochs: first epochs, in which the learning rate rises to ``lr`` instead.
        momentum, weight_decay: of SGD.
        clip: largest norm of the gradient; 0: any.
        drop_path: probability, reached linearly over the epochs, with which what an operation makes
            of an image is dropped.
        cutout: side in pixels of the square that is blanked in each training image; 0: none.
        auxiliary_weight: of the auxiliary head's loss beside the network's; 0: no such head.
        label_smoothing: share of the target that is spread evenly over all classes.
        limit: training images used; None: all.
        precision: of training: ``fp32``, or ``bf16`` by autocast. Weights, losses and tests are
            single precision in both.
    """

    epochs: int = 600
    batch: int = 128
    lr: float = 0.025
    schedule: str = "cosine"
    warmup_epochs: int = 0
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    drop_path: float = 0.2
    cutout: int = 16
    auxiliary_weight: float = 0.4
    label_smoothing: float = 0.0
    limit: int | None = None
    precision: str = "fp32"

    def learning_rate(self, epoch: int) -> float:
        """The rate of an epoch, which are counted from 0; it would be 0 after the last one."""
        if epoch < self.warmup_epochs:
            return self.lr * (epoch + 1) / self.warmup_epochs
        done = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        falling = (1 + math.cos(math.pi * done)) / 2 if self.schedule == "cosine" else 1 - done
        return self.lr * falling

    def drop_path_probability(self, epoch: int) -> float:
        """The probability in an epoch, which are counted from 0."""
        return self.drop_path * epoch / self.epochs

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Raises: InputError: a value cannot work."""
        check_one_of("schedule", self.schedule, SCHEDULES)
        check_one_of("precision", self.precision, PRECISIONS)
        # Batch norm needs two images.
        least = {"epochs": 1, "batch": 2, "warmup_epochs": 0, "cutout": 0, "limit": 2}
        for name, value in least.items():
            count = getattr(self, name)
            if count is not None and not value <= count <= MOST_COUNT:
                raise InputError(f"{name}={count} cannot be", f"use {value} to {MOST_COUNT}")
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"a warm-up of {self.warmup_epochs} of {self.epochs} epochs leaves none in which "
                "the learning rate falls",
                "use more --epochs, or fewer --warmup-epochs",
            )
        if not 0 < self.lr < math.inf:
            raise InputError(f"lr={self.lr} is not a learning rate", "use more than 0")
        for name in ("weight_decay", "clip", "auxiliary_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)} cannot be", "use 0 or more")
        for name in ("momentum", "drop_path", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} is no share", "use 0 to below 1")


PRESETS: dict[str, TrainingConfig] = {
    "cifar": TrainingConfig(),
    # The paper's on ImageNet (section 4.2).
    "imagenet": TrainingConfig(
        epochs=250, batch=1024, lr=0.5, schedule="linear", warmup_epochs=5, weight_decay=3e-5,
        drop_path=0.0, cutout=0, label_smoothing=0.1,
    ),
    # Scaled down for some minutes on two CPU cores: a small network, few images and epochs, a rate
    # that gets somewhere in them, and nothing against an overfitting that they leave no time for.
    "cpu-small": TrainingConfig(
        epochs=8, batch=64, lr=0.1, drop_path=0.0, cutout=0, auxiliary_weight=0.0, limit=10_000,
    ),
}  # fmt: skip
