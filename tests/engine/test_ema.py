"""The exponential moving average of the weights."""

import math

import pytest
import torch
from torch import nn

from fsdbev.engine import ModelEMA


def fill(model, value, steps):
    """Sets all floats of the model to ``value`` and its counter to ``steps``."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value if tensor.is_floating_point() else steps)


@pytest.fixture
def model():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    fill(model, 1.0, steps=1)
    return model


def test_two_updates_by_hand(model):
    ema = ModelEMA(model, decay=0.999, warmup=2000, start_updates=10560)
    expected = 1.0
    for n, value in ((10561, 3.0), (10562, -2.0)):
        d = 0.999 * (1 - math.exp(-n / 2000))
        expected = d * expected + (1 - d) * value
        fill(model, value, steps=n)
        ema.update()
        assert ema.updates == n and ema.decay() == pytest.approx(d)
    state = ema.model.state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"):
        assert state[name].item() == pytest.approx(expected, rel=1e-6)
    assert state["1.num_batches_tracked"].item() == 10562
    assert expected == pytest.approx(1 + 0.0060791 * 2 - 0.0060766 * 3.0121582, abs=2e-5)


def test_the_average_is_a_copy_that_neither_trains_nor_changes_the_model(model):
    ema = ModelEMA(model)
    assert not ema.model.training and model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    fill(model, 5.0, steps=0)
    ema.update()
    assert model[0].weight.item() == 5.0 and model[0].weight.requires_grad
    assert 1.0 < ema.model[0].weight.item() < 5.0


def test_state_round_trip_and_reset(model):
    ema = ModelEMA(model, start_updates=0)
    fill(model, 2.0, steps=7)
    ema.update()
    other = ModelEMA(model)
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1
    for name, value in ema.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value)
    other.reset()
    assert other.model[0].weight.item() == 2.0 and other.updates == 1


def test_updates_after_loading_either_model(model):
    """``load_state_dict`` copies in place, so the tensors listed at the start stay the model's."""
    ema = ModelEMA(model, decay=0.5, warmup=1e-9)
    zeros = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    ema.load_state_dict({"model": zeros, "updates": 3})
    model.load_state_dict({name: torch.full_like(value, 8) for name, value in zeros.items()})
    ema.update()
    assert ema.model[0].weight.item() == 4.0 and ema.updates == 4
    assert ema.model[1].num_batches_tracked.item() == 8


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"warmup": 0}, {"start_updates": -1}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="EMA needs"):
        ModelEMA(nn.Linear(1, 1), **options)
