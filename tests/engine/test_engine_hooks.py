"""Hooks: gradient clipping, preemption, seeds."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from fsdbev.checkpoint import read_checkpoint
from fsdbev.d2.engine import HookBase, hooks
from fsdbev.d2.utils.events import EventStorage
from fsdbev.engine import Trainer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_preempted_training_saves_and_goes_on(toy_config, number):
    before = signal.getsignal(number)

    def interrupt(trainer):
        if trainer.iter == 2:
            os.kill(os.getpid(), number)

    cfg = toy_config()
    trainer = Trainer(cfg)
    trainer.register_hooks([hooks.CallbackHook(before_step=interrupt)])
    with pytest.raises(SystemExit) as stopped:
        trainer.train()
    assert stopped.value.code == 0
    assert signal.getsignal(number) is before
    folder = Path(cfg.train.output_dir)
    assert (folder / "last_checkpoint").read_text() == "model_0000002.pth"
    assert not (folder / "evaluation.json").exists()

    again = Trainer(cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == 3
    again.train()
    assert read_checkpoint(str(folder / "model_final.pth"))["iteration"] == 11


def test_signal_in_the_last_iteration_lets_the_training_end(toy_config):
    def interrupt(trainer):
        if trainer.iter == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer = Trainer(toy_config("train.max_iter=4"))
    trainer.register_hooks([hooks.CallbackHook(before_step=interrupt)])
    assert trainer.train()["toy"]["count"] == 5


def test_loader_workers_are_out_of_the_process_group(toy_config):
    groups = []

    def note(trainer):
        groups.extend(os.getpgid(child.pid) for child in multiprocessing.active_children())

    trainer = Trainer(toy_config("dataloader.train.num_workers=1", "train.max_iter=2"))
    trainer.register_hooks([hooks.CallbackHook(after_step=note)])
    trainer.train()
    assert groups and os.getpgrp() not in groups


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
        Trainer(toy_config("model.nan_at=0")).train()
    assert not has_event_storage()
    with EventStorage():
        assert has_event_storage()
