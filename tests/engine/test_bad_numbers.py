"""Iterations with non-finite losses: skipped without a trace, up to a limit, and logged."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from fsdbev.checkpoint import read_checkpoint
from fsdbev.d2.engine import hooks
from fsdbev.engine import Trainer


def everything(trainer):
    """Returns copies of everything that an iteration changes."""
    return copy.deepcopy(
        {
            "model": trainer.checkpointer.model.state_dict(),
            "ema": trainer.ema.state_dict(),
            "optimizer": trainer.optimizer.state_dict()["state"],
            "scaler": trainer._trainer.grad_scaler.state_dict(),
        }
    )


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def train(cfg, note=None):
    trainer = Trainer(cfg)
    if note is not None:
        trainer.register_hooks([hooks.CallbackHook(before_step=note, after_step=note)])
    trainer.resume_or_load(resume=True)
    trainer.train()
    return trainer


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("precision", ["", "bfloat16", "float16"])
def test_a_skipped_iteration_leaves_no_trace(toy_config, precision, caplog):
    amp = ("train.amp.enabled=true", f"train.amp.dtype={precision}") if precision else ()
    states = {}

    def note(trainer):
        states.setdefault(trainer.iter, []).append(everything(trainer))

    # Sample 20 is in iteration 2, in batches of 8; BatchNorm processes it before the loss.
    cfg = toy_config("dataloader.train.infinite=[20]", "train.max_iter=5", *amp)
    train(cfg, note)
    for iteration, (before, after) in states.items():
        assert equal(before, after) == (iteration == 2)
    assert all(p.isfinite().all() for p in states[4][1]["model"].values())
    warned = [r.getMessage() for r in caplog.records if "is skipped" in r.getMessage()]
    assert len(warned) == 1 and "1 of 5 that train.max_skipped_steps allows" in warned[0]
    assert "loss_main is nan and loss_small is nan at iteration 2 on rank 0" in warned[0]
    assert "Samples there: sample-16, sample-17, " in warned[0] and "sample-20" in warned[0]
    lines = (Path(cfg.train.output_dir) / "metrics.json").read_text().splitlines()
    assert [json.loads(line).get("skipped_steps") for line in lines[:3]] == [None, None, 1]


def test_the_training_stops_when_too_many_were_skipped(toy_config):
    cfg = toy_config("model.nan_at=[1,2,3,4]", "train.max_skipped_steps=2")
    with pytest.raises(FloatingPointError, match="loss_small is nan at iteration 3 on rank 0"):
        train(cfg)
    kept = read_checkpoint(str(Path(cfg.train.output_dir) / "model_0000002.pth"))
    assert kept["trainer"]["_trainer"]["skipped_steps"] == 2


def test_the_count_continues_after_a_resume(toy_config):
    train(toy_config("model.nan_at=[0,1]", "train.max_skipped_steps=3", "train.max_iter=2"))
    cfg = toy_config("model.nan_at=[0,1]", "train.max_skipped_steps=3")  # now iterations 2 and 3
    with pytest.raises(FloatingPointError, match="at iteration 3"):
        train(cfg)


def test_the_stopped_training_goes_on_where_the_reason_is_gone(toy_config):
    uninterrupted, repaired = toy_config(output="uninterrupted"), toy_config(output="repaired")
    torch.manual_seed(0)
    train(uninterrupted)
    torch.manual_seed(0)
    with pytest.raises(FloatingPointError):
        train(toy_config("model.nan_at=[7]", "train.max_skipped_steps=0", output="repaired"))
    train(repaired)
    ends = [
        read_checkpoint(str(Path(cfg.train.output_dir) / "model_final.pth"))
        for cfg in (uninterrupted, repaired)
    ]
    assert equal(ends[0]["model"], ends[1]["model"]) and equal(ends[0]["ema"], ends[1]["ema"])


def test_the_limit_is_not_negative(toy_config):
    with pytest.raises(ValueError, match="max_skipped_steps must not be negative, got -1"):
        Trainer(toy_config("train.max_skipped_steps=-1"))


def test_replaced_samples_are_counted_up_to_a_bound(toy_config, caplog):
    cfg = toy_config("train.max_iter=4")
    trainer = Trainer(cfg)
    dataset = trainer.data_loader.dataset
    get, dataset.max_bad_samples = type(dataset).__getitem__, 2

    class Replacing(type(dataset)):
        def __getitem__(self, index):
            note = {"replaced": f"sample {index}: torn"} if index in (3, 9, 17) else {}
            return get(self, index) | note

    dataset.__class__ = Replacing
    with pytest.raises(ValueError, match="3 samples of this training .* more than the 2 of train"):
        trainer.train()
    assert trainer.iter == 2
    assert [f"sample {i}: torn" in caplog.text for i in (3, 9, 17)] == [True] * 3
    assert math.isfinite(trainer.checkpointer.model.out.weight.sum().item())
