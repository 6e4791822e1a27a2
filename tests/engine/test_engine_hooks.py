"""Hooks: seeds, and what a failure leaves."""

import pytest
import torch

from fsdbev.d2.engine import HookBase
from fsdbev.d2.utils.events import EventStorage
from fsdbev.engine import Trainer


def test_random_numbers_follow_from_seed_and_iteration(toy_config):
    class Draw(HookBase):
        def __init__(self):
            self.drawn = []

        def before_step(self):
            self.drawn.append(torch.rand(1).item())

    def draws(*overrides):
        hook = Draw()
        trainer = Trainer(toy_config("train.max_iter=3", *overrides))
        trainer.register_hooks([hook])
        trainer.train()
        return hook.drawn

    first = draws("train.seed=1")
    assert first == draws("train.seed=1")
    assert len(set(first)) == 3
    assert not set(first) & set(draws("train.seed=2"))
    assert draws("train.seed=-1") != draws("train.seed=-1")


def test_storage_is_closed_after_a_failure(toy_config):
    from fsdbev.d2.utils.events import has_event_storage

    with pytest.raises(FloatingPointError):
        Trainer(toy_config("model.nan_at=[0]", "train.max_skipped_steps=0")).train()
    assert not has_event_storage()
    with EventStorage():
        assert has_event_storage()
