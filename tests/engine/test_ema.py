"""The average of the weights, against its formula."""

import math

import pytest
import torch
from torch import nn

from fsdbev.engine import ModelEMA


def model_at(value, steps):
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value if tensor.is_floating_point() else steps)
    return model


def test_two_updates_by_hand():
    ema = ModelEMA(model_at(1.0, steps=1), decay=0.999, warmup=2000, start_updates=10560)
    expected = 1.0
    for n, value in ((10561, 3.0), (10562, -2.0)):
        d = 0.999 * (1 - math.exp(-n / 2000))
        expected = d * expected + (1 - d) * value
        ema.update(model_at(value, steps=n))
        assert ema.updates == n and ema.decay() == pytest.approx(d)
    state = ema.model.state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"):
        assert state[name].item() == pytest.approx(expected, rel=1e-6)
    assert state["1.num_batches_tracked"].item() == 10562
    assert expected == pytest.approx(1 + 0.0060791 * 2 - 0.0060766 * 3.0121582, abs=2e-5)


def test_the_average_is_a_copy_that_neither_trains_nor_changes_the_model():
    model = model_at(1.0, steps=0)
    ema = ModelEMA(model)
    assert not ema.model.training and model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    ema.update(model_at(5.0, steps=0))
    assert model[0].weight.item() == 1.0


def test_state_round_trip_and_reset():
    ema = ModelEMA(model_at(1.0, steps=0), start_updates=0)
    ema.update(model_at(2.0, steps=7))
    other = ModelEMA(model_at(9.0, steps=0))
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1
    for a, b in zip(
        other.model.state_dict().values(), ema.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    other.reset(model_at(4.0, steps=3))
    assert other.model[0].weight.item() == 4.0 and other.updates == 1


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"warmup": 0}, {"start_updates": -1}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="EMA needs"):
        ModelEMA(nn.Linear(1, 1), **options)
