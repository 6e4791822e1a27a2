"""One training iteration: clipping and logging of the gradient norm, non-finite gradients."""

import pytest
import torch

from fsdbev.d2.engine import SimpleTrainer
from fsdbev.d2.utils.events import EventStorage
from fsdbev.engine.train_step import BadNumbersError, TrainStep


class Lines(torch.nn.Module):
    """Model with loss = slope * (3 a + 4 b), whose gradient norm is 5 * slope."""

    def __init__(self, slope):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(1))
        self.b = torch.nn.Parameter(torch.zeros(1))
        self.slope = slope

    def forward(self, batch):
        return {"loss": self.slope * (3 * self.a + 4 * self.b).sum()}


def run_step(model, scale=None, **options):
    """Runs an iteration with a learning rate of 1; returns the step and the scalars it stored."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    batch = [{"sample_token": "abc"}, {}]
    step = TrainStep(model, [batch], optimizer, device=torch.device("cpu"), **options)
    step.iter = 0
    if scale is not None:
        step.grad_scaler.load_state_dict({**step.grad_scaler.state_dict(), "scale": scale})
    with EventStorage() as storage:
        step.run_step()
    return step, {name: value for name, (value, _) in storage.latest().items()}


@pytest.mark.parametrize(
    "slope, expected",
    [(1.0, (-3.0, -4.0)), (2.0, (-3.0, -4.0)), (0.1, (-0.3, -0.4))],
)
def test_gradient_norm_is_clipped_and_logged(slope, expected):
    model = Lines(slope)
    _, logged = run_step(model, max_grad_norm=5.0)
    assert (model.a.item(), model.b.item()) == pytest.approx(expected, rel=1e-5)
    assert logged["grad_norm"] == pytest.approx(5 * slope)
    assert logged["loss"] == logged["total_loss"] == 0


def test_without_a_limit_gradients_are_not_clipped():
    model = Lines(2.0)
    assert issubclass(TrainStep, SimpleTrainer)  # hooks access its optimizer
    assert run_step(model)[1]["grad_norm"] == pytest.approx(10)
    assert (model.a.item(), model.b.item()) == (-6, -8)


class OneLoss(Lines):
    def forward(self, batch):
        return super().forward(batch)["loss"]


def test_a_model_may_return_a_single_loss():
    model = OneLoss(1.0)
    _, logged = run_step(model)
    assert (model.a.item(), model.b.item()) == (-3, -4)
    assert logged.keys() == {"grad_norm", "data_time", "total_loss"}
    with pytest.raises(BadNumbersError, match="total_loss is nan"):
        run_step(OneLoss(float("nan")))


class Root(Lines):
    def forward(self, batch):
        return {"loss": self.a.sqrt().sum() + 0 * self.b.sum()}  # 0, with an infinite gradient


def test_in_float16_non_finite_gradients_halve_the_scale_down_to_one():
    model = Root(1.0)
    step, logged = run_step(model, scale=2.0, precision=torch.float16)
    assert "grad_norm" not in logged
    assert model.a.item() == model.b.item() == 0
    assert step.grad_scaler.get_scale() == 1
    with pytest.raises(BadNumbersError, match="gradient norm is (inf|nan)"):
        run_step(model, scale=1.0, precision=torch.float16)


def test_errors():
    with pytest.raises(BadNumbersError, match="gradient norm is (inf|nan).*abc, number 1"):
        run_step(Root(1.0))
    with pytest.raises(ValueError, match="positive, got 0"):
        run_step(Lines(1.0), max_grad_norm=0)
