"""What belongs to training alone: auxiliary head, drop-path, label smoothing, clipping."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from latkit.core.errors import InputError
from latkit.search.distributed import ALONE
from latkit.search.optimizers import clip_gradients
from latkit.spaces import get_space
from latkit.spaces.nasbench201.network import NasBench201Network
from latkit.training.config import TrainingConfig
from latkit.training.request import TrainingRequest
from latkit.training.step import Trainer, make_network
from latkit.training.weights import save_weights


def test_the_auxiliary_head_is_of_training_alone(tmp_path: Path) -> None:
    """Parameters as published: 3.349 M, and 3.826 M with the head."""
    plan = TrainingRequest("darts_v2").plan()
    network = make_network(plan.space, plan.architecture, plan.network, plan.config, 0)
    assert sum(p.numel() for p in network.parameters()) == 3_349_342 + 476_426
    save_weights(tmp_path / "w.safetensors", network, {})
    plain = get_space("darts").build_for_training(plan.architecture, plan.network, False)
    assert sum(p.numel() for p in plain.parameters()) == 3_349_342
    plain.load_state_dict(safetensors.torch.load_file(tmp_path / "w.safetensors"))
    images = torch.zeros(2, 3, 32, 32)
    assert isinstance(network.train()(images), tuple)
    with torch.inference_mode():
        assert torch.equal(network.eval()(images), plain.eval()(images))


def test_no_auxiliary_head_of_nasbench201() -> None:
    request = TrainingRequest("7", space="nasbench201", auxiliary_weight=0.4)
    plan = request.plan()
    with pytest.raises(InputError, match="auxiliary"):
        make_network(plan.space, plan.architecture, plan.network, plan.config, 0)


def test_drop_path_of_nasbench201_keeps_the_mean() -> None:
    """An average pooling of ones is ones: on average it stays so, and a skip is never dropped."""
    space = get_space("nasbench201")
    cell = space.cell(space.parse(
        "|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|"
    )[0])  # fmt: skip
    plan = TrainingRequest("7", space="nasbench201", preset="cpu-small").plan()
    network = space.build_for_training(cell, plan.network, False)
    assert isinstance(network, NasBench201Network)
    network.drop_path_probability = 0.25
    assert network.drop_path_probability == 0.25
    ones = torch.ones(4000, 1, 2, 2)
    torch.manual_seed(0)
    values = network.cells[0](ones)
    assert values.unique().tolist() == pytest.approx([1, 1 + 4 / 3])
    assert (values == 1).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert values.mean().item() == pytest.approx(2, abs=0.05)
    network.eval()
    assert (network.cells[0](ones) == 2).all()


def test_loss_by_hand() -> None:
    """(1 - s) of the target, and s spread evenly over all classes; the head's at its weight."""
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    log = logits.log_softmax(1)[0]

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return logits * self.scale, 2 * logits * self.scale

    config = TrainingConfig(
        label_smoothing=0.3, auxiliary_weight=0.4, clip=0, lr=1.0, weight_decay=0, momentum=0
    )
    network = Two()
    trainer = Trainer(network, config, torch.device("cpu"), ALONE)
    trainer.set_epoch(0)
    loss, wrong = trainer.step(torch.zeros(1, 3, 4, 4), torch.tensor([0]), 0).tolist()
    assert loss == pytest.approx(-(0.7 * log[0] + 0.1 * log.sum()).item())
    assert wrong == 1
    # The step went along the gradient of both losses.
    scale = torch.ones((), requires_grad=True)
    smooth = nn.CrossEntropyLoss(label_smoothing=0.3)
    label = torch.tensor([0])
    total = smooth(logits * scale, label) + 0.4 * smooth(2 * logits * scale, label)
    (gradient,) = torch.autograd.grad(total, scale)
    assert network.scale.item() == pytest.approx(1 - gradient.item())


def test_clipping() -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    clip_gradients(gradients, 10)
    assert [g.tolist() for g in gradients] == [[3, 0], [4]]
    clip_gradients(gradients, 1)
    assert torch.cat(gradients).tolist() == pytest.approx([0.6, 0, 0.8], abs=1e-6)


def test_operations_that_nothing_reads() -> None:
    """Gradients of what lies behind `none` are 0, not missing."""
    space = get_space("nasbench201")
    cell = space.cell(space.parse(
        "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    )[0])  # fmt: skip
    plan = TrainingRequest("7", space="nasbench201", preset="cpu-small").plan()
    network = make_network(space, cell, plan.network, plan.config, 0)
    trainer = Trainer(network, plan.config, torch.device("cpu"), ALONE)
    trainer.set_epoch(1)
    loss, _ = trainer.step(torch.randn(4, 3, 8, 8), torch.arange(4), 0).tolist()
    assert 0 < loss < 100
