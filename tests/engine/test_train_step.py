"""One training iteration: what becomes of the gradients, and what is told of them."""

import pytest
import torch

from fsdbev.d2.engine import SimpleTrainer
from fsdbev.d2.utils.events import EventStorage
from fsdbev.engine.train_step import TrainStep


class Lines(torch.nn.Module):
    """loss = 3 a + 4 b: a gradient of (3, 4), of norm 5; ``slope`` times that."""

    def __init__(self, slope):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(1))
        self.b = torch.nn.Parameter(torch.zeros(1))
        self.slope = slope

    def forward(self, batch):
        return {"loss": self.slope * (3 * self.a + 4 * self.b).sum()}


def one_step(model, **options):
    """What was logged by an iteration with a learning rate of 1."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    step = TrainStep(model, [[]], optimizer, device=torch.device("cpu"), **options)
    step.iter = 0
    with EventStorage() as storage:
        step.run_step()
    return {name: value for name, (value, _) in storage.latest().items()}


@pytest.mark.parametrize(
    "slope, expected",
    [(1.0, (-3.0, -4.0)), (2.0, (-3.0, -4.0)), (0.1, (-0.3, -0.4))],
)
def test_gradient_norm_is_clipped_and_logged(slope, expected):
    model = Lines(slope)
    logged = one_step(model, max_grad_norm=5.0)
    assert (model.a.item(), model.b.item()) == pytest.approx(expected, rel=1e-5)
    assert logged["grad_norm"] == pytest.approx(5 * slope)
    assert logged["loss"] == logged["total_loss"] == 0


def test_without_a_limit_gradients_stay():
    model = Lines(2.0)
    assert issubclass(TrainStep, SimpleTrainer)  # whose hooks read its optimizer
    assert one_step(model)["grad_norm"] == pytest.approx(10)
    assert (model.a.item(), model.b.item()) == (-6, -8)


class Root(Lines):
    def forward(self, batch):
        return {"loss": self.a.sqrt().sum() + 0 * self.b.sum()}  # 0, with an infinite slope


def test_in_float16_such_a_step_is_skipped_and_the_scale_falls():
    model = Root(1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    step = TrainStep(model, [[]], optimizer, device=torch.device("cpu"), precision=torch.float16)
    step.iter, before = 0, step.grad_scaler.get_scale()
    with EventStorage() as storage:
        step.run_step()
    assert "grad_norm" not in storage.latest()
    assert model.a.item() == model.b.item() == 0
    assert step.grad_scaler.get_scale() == before / 2


def test_max_norm_must_be_positive():
    with pytest.raises(ValueError, match="positive, got 0"):
        one_step(Lines(1.0), max_grad_norm=0)
