"""Training jobs that are told to stop: in an iteration, while saving, in an evaluation, twice."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from fsdbev.checkpoint import read_checkpoint
from fsdbev.d2.engine import hooks
from fsdbev.engine import Trainer
from fsdbev.utils.processes import PREEMPTED


def tell(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


def stopped(trainer):
    with pytest.raises(SystemExit) as end:
        trainer.train()
    assert end.value.code == PREEMPTED == 75


def go_on(cfg):
    again = Trainer(cfg)
    again.resume_or_load(resume=True)
    again.train()
    return again


def files(cfg):
    return sorted(p.name for p in Path(cfg.train.output_dir).glob("*.pth*"))


@pytest.mark.parametrize("numbers", [[signal.SIGUSR1], [signal.SIGTERM] * 3])
def test_it_finishes_the_iteration_saves_and_goes_on(toy_config, numbers):
    def interrupt(trainer):
        if trainer.iter == 2:
            tell(*numbers)

    cfg = toy_config()
    trainer = Trainer(cfg)
    trainer.register_hooks([hooks.CallbackHook(before_step=interrupt)])
    stopped(trainer)
    folder = Path(cfg.train.output_dir)
    assert (folder / "last_checkpoint").read_text() == "model_0000002.pth"
    assert not (folder / "evaluation.json").exists()
    tell(signal.SIGTERM, signal.SIGUSR1)  # on the way out: they do not change the exit status
    again = go_on(cfg)
    assert again.start_iter == 3
    assert read_checkpoint(str(folder / "model_final.pth"))["iteration"] == 11


@pytest.mark.parametrize("moment", ["before", "after"])
def test_signals_while_a_checkpoint_is_written_do_no_harm(toy_config, moment, monkeypatch):
    cfg = toy_config()  # saves after iteration 4
    replace, told = os.replace, []

    def interrupt(source, target):
        if target.endswith("model_0000004.pth") and moment == "before":
            told.append(tell(signal.SIGTERM, signal.SIGUSR1))
        replace(source, target)
        if target.endswith("model_0000004.pth") and moment == "after":
            told.append(tell(signal.SIGTERM, signal.SIGUSR1))

    monkeypatch.setattr(os, "replace", lambda a, b: interrupt(os.fspath(a), os.fspath(b)))
    stopped(Trainer(cfg))
    monkeypatch.undo()
    assert told and files(cfg) == ["model_0000004.pth"]
    assert read_checkpoint(f"{cfg.train.output_dir}/model_0000004.pth")["iteration"] == 4
    assert go_on(cfg).start_iter == 5


def test_in_the_last_iteration_the_evaluation_is_left_for_later(toy_config):
    def interrupt(trainer):
        if trainer.iter == 3:
            tell(signal.SIGTERM)

    cfg = toy_config("train.max_iter=4")
    trainer = Trainer(cfg)
    trainer.register_hooks([hooks.CallbackHook(before_step=interrupt)])
    stopped(trainer)
    evaluation = Path(cfg.train.output_dir) / "evaluation.json"
    assert not evaluation.exists() and "model_final.pth" in files(cfg)
    again = go_on(cfg)
    assert again.start_iter == 4 and again.results["toy"]["count"] == 5 and evaluation.exists()


def test_in_an_evaluation_it_ends_at_once_and_nothing_is_lost(toy_config):
    cfg = toy_config("train.eval_period=3")  # checkpoints only after iteration 4
    trainer = Trainer(cfg)
    predictions = []

    def interrupt(module, inputs, output):
        predictions.append(output)
        if len(predictions) == 2:
            tell(signal.SIGUSR1)

    trainer.eval_model.register_forward_hook(interrupt)
    stopped(trainer)
    assert len(predictions) == 2 and files(cfg) == ["model_0000002.pth"]
    assert go_on(cfg).start_iter == 3


def test_a_training_that_ends_by_itself_gives_the_handlers_back(toy_config):
    before = signal.getsignal(signal.SIGTERM)
    Trainer(toy_config("train.max_iter=1")).train()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("no_process_left")
def test_loader_workers_are_out_of_the_process_group_and_end_with_the_training(toy_config):
    groups = []

    def note(trainer):
        groups.extend(os.getpgid(child.pid) for child in multiprocessing.active_children())

    trainer = Trainer(toy_config("dataloader.train.num_workers=1", "train.max_iter=2"))
    trainer.register_hooks([hooks.CallbackHook(after_step=note)])
    trainer.train()
    assert groups and os.getpgrp() not in groups
