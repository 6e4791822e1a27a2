"""Stop signals to a training: in an iteration, during a save or an evaluation, several of them."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from fsdbev.checkpoint import read_checkpoint
from fsdbev.d2.engine import hooks
from fsdbev.engine import Trainer
from fsdbev.utils.processes import PREEMPTED


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


def assert_stops(trainer):
    with pytest.raises(SystemExit) as end:
        trainer.train()
    assert end.value.code == PREEMPTED == 75


def resume(cfg):
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
            send(*numbers)

    cfg = toy_config()
    trainer = Trainer(cfg)
    trainer.register_hooks([hooks.CallbackHook(before_step=interrupt)])
    assert_stops(trainer)
    folder = Path(cfg.train.output_dir)
    assert (folder / "last_checkpoint").read_text() == "model_0000002.pth"
    assert not (folder / "evaluation.json").exists()
    send(signal.SIGTERM, signal.SIGUSR1)  # signals at the end do not change the exit status
    again = resume(cfg)
    assert again.start_iter == 3
    assert read_checkpoint(str(folder / "model_final.pth"))["iteration"] == 11


@pytest.mark.parametrize("when", ["before", "after"])
def test_signals_while_a_checkpoint_is_written_do_no_harm(toy_config, when, monkeypatch):
    cfg = toy_config()  # saves after iteration 4
    replace, sent = os.replace, []

    def interrupt(source, target):
        is_checkpoint = target.endswith("model_0000004.pth")
        if is_checkpoint and when == "before":
            sent.append(send(signal.SIGTERM, signal.SIGUSR1))
        replace(source, target)
        if is_checkpoint and when == "after":
            sent.append(send(signal.SIGTERM, signal.SIGUSR1))

    monkeypatch.setattr(os, "replace", lambda a, b: interrupt(os.fspath(a), os.fspath(b)))
    assert_stops(Trainer(cfg))
    monkeypatch.undo()
    assert sent and files(cfg) == ["model_0000004.pth"]
    assert read_checkpoint(f"{cfg.train.output_dir}/model_0000004.pth")["iteration"] == 4
    assert resume(cfg).start_iter == 5


def test_in_the_last_iteration_the_evaluation_is_postponed(toy_config):
    def interrupt(trainer):
        if trainer.iter == 3:
            send(signal.SIGTERM)

    cfg = toy_config("train.max_iter=4")
    trainer = Trainer(cfg)
    trainer.register_hooks([hooks.CallbackHook(before_step=interrupt)])
    assert_stops(trainer)
    evaluation = Path(cfg.train.output_dir) / "evaluation.json"
    assert not evaluation.exists() and "model_final.pth" in files(cfg)
    again = resume(cfg)
    assert again.start_iter == 4 and again.results["toy"]["count"] == 5 and evaluation.exists()


def test_in_an_evaluation_it_ends_at_once_and_nothing_is_lost(toy_config):
    cfg = toy_config("train.eval_period=3")  # checkpoints only after iteration 4
    trainer = Trainer(cfg)
    predictions = []

    def interrupt(module, inputs, output):
        predictions.append(output)
        if len(predictions) == 2:
            send(signal.SIGUSR1)

    trainer.eval_model.register_forward_hook(interrupt)
    assert_stops(trainer)
    assert len(predictions) == 2 and files(cfg) == ["model_0000002.pth"]
    assert resume(cfg).start_iter == 3


def test_a_training_restores_the_signal_handlers(toy_config):
    before = signal.getsignal(signal.SIGTERM)
    Trainer(toy_config("train.max_iter=1")).train()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("no_process_left")
def test_loader_workers_have_their_own_process_group_and_end_with_the_training(toy_config):
    groups = []

    def note(trainer):
        groups.extend(os.getpgid(child.pid) for child in multiprocessing.active_children())

    trainer = Trainer(toy_config("dataloader.train.num_workers=1", "train.max_iter=2"))
    trainer.register_hooks([hooks.CallbackHook(after_step=note)])
    trainer.train()
    assert groups and os.getpgrp() not in groups
