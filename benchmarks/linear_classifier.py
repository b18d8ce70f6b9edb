"""What a linear classifier makes of the images that ``latkit train --preset cpu-small`` sees.

    python benchmarks/linear_classifier.py --data PATH [--limit 10000]

Multinomial logistic regression of the normalised pixels by L-BFGS, without augmentation, for six L2
penalties. The best of them on the test images is what a training is compared with, which favours
the linear classifier. Prints JSON.
"""

from __future__ import annotations

import argparse
import json

import torch
from torch import Tensor, nn

from latkit.search.data import load_split
from latkit.training.data import TrainingData

PENALTIES = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)


def fit(x: Tensor, y: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights and biases of the least penalised cross-entropy."""
    weight = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=80, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(x @ weight + bias, y)
        value = value + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach(), bias.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=10_000, help="training images")
    given = parser.parse_args()
    data = TrainingData.of(*load_split(given.data, given.limit))
    x, y, test_x, test_y = (
        part
        for split in (data.train, data.test)
        for part in (((split.images.float() - data.mean) / data.std).flatten(1), split.labels)
    )
    errors = {}
    for penalty in PENALTIES:
        weight, bias = fit(x, y, data.train.classes, penalty)
        wrong = (test_x @ weight + bias).argmax(1) != test_y
        errors[penalty] = round(100 * float(wrong.float().mean()), 2)
    print(json.dumps({
        "training_images": len(y), "test_images": len(test_y),
        "test_error_percent_by_penalty": errors, "best": min(errors.values()),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
