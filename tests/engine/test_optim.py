"""Learning rate schedules by hand, and the shared configs of the training."""

import math
from pathlib import Path

import pytest
import torch

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.d2.solver import LRMultiplier
from fsdbev.engine.lazy_builders import build_optimizer
from fsdbev.engine.optim import (
    constant_with_warmup,
    cosine_with_warmup,
    trainable_parameters,
)

COMMON = Path(__file__).parents[2] / "configs" / "common"


def rates(scheduler, max_iter):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    multiplier = LRMultiplier(optimizer, scheduler, max_iter)
    found = []
    for _ in range(max_iter):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        multiplier.step()  # also after the last iteration, as in the trainer
    return found


def test_constant_after_linear_warmup():
    found = rates(constant_with_warmup(max_iter=1000, warmup_iters=200, warmup_factor=1e-3), 1000)
    assert found[0] == pytest.approx(2e-3)
    assert found[1] == pytest.approx(2 * (0.001 + 0.999 / 200))
    assert found[100] == pytest.approx(2 * 0.5005)
    assert found[199] == pytest.approx(2 * (0.001 + 0.999 * 199 / 200))
    assert found[200:] == pytest.approx([2.0] * 800)


def test_cosine_after_linear_warmup():
    scheduler = cosine_with_warmup(max_iter=100, warmup_iters=20, warmup_factor=0.1, end_factor=0.2)
    found = rates(scheduler, 100)

    def cosine(i):
        return 0.2 + 0.8 * (1 + math.cos(math.pi * i / 100)) / 2

    assert found[0] == pytest.approx(2 * 0.1)
    assert found[10] == pytest.approx(2 * (0.1 + cosine(20)) / 2)
    for i in (20, 50, 99):
        assert found[i] == pytest.approx(2 * cosine(i))


def test_no_warmup_and_a_training_shorter_than_it():
    assert rates(constant_with_warmup(max_iter=3, warmup_iters=0), 3) == [2.0] * 3
    short = rates(constant_with_warmup(max_iter=4, warmup_iters=200, warmup_factor=0.5), 4)
    assert short == pytest.approx([1.0, 1.25, 1.5, 1.75])


def test_shared_configs_are_the_schedule_of_the_paper():
    optimizer = LazyConfig.load(str(COMMON / "optim.py")).AdamW
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    adamw = build_optimizer(optimizer, model)
    assert type(adamw) is torch.optim.AdamW and optimizer.params.model is None
    (group,) = adamw.param_groups
    assert group["params"] == [model.weight] == trainable_parameters(model)
    assert (group["lr"], group["weight_decay"]) == (2e-4, 1e-2)

    train = LazyConfig.load(str(COMMON / "train.py")).train
    assert train.clip_grad == {"enabled": True, "max_norm": 5.0}
    assert train.ema == {"enabled": True, "decay": 0.999, "warmup": 2000, "start_updates": 10560}


def test_schedules_follow_max_iter():
    cfg = LazyConfig.load(str(COMMON / "train.py"))
    schedules = LazyConfig.load(str(COMMON / "schedule.py"))
    cfg.train.max_iter = 400
    cfg.lr_multiplier = schedules.constant
    assert instantiate(cfg.lr_multiplier)(100 / 400) == pytest.approx(0.5005)
    cfg.lr_multiplier = schedules.cosine
    assert instantiate(cfg.lr_multiplier)(300 / 400) == pytest.approx((1 - math.sqrt(0.5)) / 2)
