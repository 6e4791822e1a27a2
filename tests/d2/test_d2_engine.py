"""The training loop, its hooks and its setup. Runs on the built-in and on Detectron2."""

import argparse
import logging
import os
import random
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from fvcore.common.param_scheduler import ConstantParamScheduler, LinearParamScheduler
from omegaconf import OmegaConf

from fsdbev.d2 import BACKEND
from fsdbev.d2.checkpoint import DetectionCheckpointer
from fsdbev.d2.config import LazyConfig
from fsdbev.d2.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
    hooks,
    launch,
)
from fsdbev.d2.solver import LRMultiplier, WarmupParamScheduler
from fsdbev.d2.utils.events import EventWriter, get_event_storage


class Square(torch.nn.Module):
    """Model of two losses: w^2 and the batch itself."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        return {"loss_w": self.w.square(), "loss_batch": torch.tensor(batch)}


def trainer_of(batches, lr=0.25):
    model = Square()
    return SimpleTrainer(model, batches, torch.optim.SGD(model.parameters(), lr=lr))


class Record(HookBase):
    """Hook that records (method, its name, iterations of trainer and storage, w)."""

    def __init__(self, calls, name):
        self.calls, self.name = calls, name

    def record(self, method):
        iterations = self.trainer.iter, self.trainer.storage.iter
        self.calls.append((method, self.name, *iterations, self.trainer.model.w.item()))


for _method in ("before_train", "before_step", "after_backward", "after_step", "after_train"):
    setattr(Record, _method, partialmethod(Record.record, _method))


def test_order_of_the_loop_and_of_hooks():
    trainer, calls = trainer_of([0.0] * 2), []
    trainer.register_hooks([None, Record(calls, "a")])
    trainer.register_hooks([Record(calls, "b")])
    trainer.train(5, 7)
    expected = [("before_train", 5, 1.0)]
    for i, before, after in ((5, 1.0, 0.5), (6, 0.5, 0.25)):  # w before and after the step
        expected += [("before_step", i, before), ("after_backward", i, before)]
        expected += [("after_step", i, after)]
    expected.append(("after_train", 7, 0.25))
    assert calls == [(method, name, i, i, w) for method, i, w in expected for name in "ab"]
    assert (trainer.start_iter, trainer.max_iter) == (5, 7)


class Stateful(HookBase):
    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"value": self.value} if self.value else {}

    def load_state_dict(self, state_dict):
        self.value = state_dict["value"]


def test_state_of_hooks(caplog):
    """Stored by class, of the first hook of a class; a state without a hook is a warning."""
    trainer = trainer_of([])
    trainer.register_hooks([HookBase(), Stateful(0), Stateful(1), Stateful(2)])
    state = trainer.state_dict()
    assert state["hooks"] == {"Stateful": {"value": 1}}
    other, hooks_of_other = trainer_of([]), [Stateful(7), Stateful(8)]
    other.register_hooks(hooks_of_other)
    other.load_state_dict(state)
    assert [hook.value for hook in hooks_of_other] == [1, 8]
    with caplog.at_level(logging.WARNING):
        trainer_of([]).load_state_dict(state)
    assert "Stateful" in caplog.text


def test_steps_lower_the_loss_and_are_stored():
    trainer = trainer_of([10.0, 20.0])
    trainer.train(0, 2)
    assert trainer.model.w.item() == pytest.approx(0.25)  # halved by each step
    history = trainer.storage.history("loss_w").values()
    assert history == [(1.0, 0), (0.25, 1)]
    assert trainer.storage.latest()["total_loss"] == (20.25, 1)
    assert "data_time" in trainer.storage.latest()


def test_loss_that_is_not_finite_stops_before_the_step():
    trainer, calls = trainer_of([0.0, float("inf")]), []
    trainer.register_hooks([Record(calls, "a")])
    with pytest.raises(FloatingPointError, match="iteration=1(.|\n)*loss_batch"):
        trainer.train(0, 2)
    assert calls[-1] == ("after_train", "a", 1, 1, 0.5)


@pytest.mark.skipif(
    BACKEND == "detectron2" and not torch.cuda.is_available(), reason="Detectron2's needs a GPU"
)
def test_mixed_precision():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    modes = []

    class Watched(Square):
        def forward(self, batch):
            modes.append((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)))
            return {"loss_w": self.w.square()}

    model = Watched().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    scaler = torch.amp.GradScaler(device, init_scale=8.0)
    trainer = AMPTrainer(model, [0], optimizer, grad_scaler=scaler, precision=torch.bfloat16)
    trainer.train(0, 1)
    assert modes == [(True, torch.bfloat16)]
    assert model.w.item() == 0.5  # the gradient is unscaled
    assert trainer.state_dict()["grad_scaler"]["scale"] == 8.0
    trainer.load_state_dict(trainer.state_dict())


def test_state_goes_through_a_checkpoint(tmp_path):
    def build():
        trainer = trainer_of([0.0] * 4)
        trainer.optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=0.1)
        trainer.scheduler = LRMultiplier(trainer.optimizer, LinearParamScheduler(1.0, 0.0), 4)
        checkpointer = DetectionCheckpointer(trainer.model, str(tmp_path), trainer=trainer)
        save = hooks.PeriodicCheckpointer(checkpointer, period=2)
        trainer.register_hooks([hooks.LRScheduler(), save])
        return trainer, checkpointer

    uninterrupted, checkpointer = build()
    uninterrupted.train(0, 4)
    names = {Path(name).name for name in checkpointer.get_all_checkpoint_files()}
    assert names == {"model_0000001.pth", "model_0000003.pth", "model_final.pth"}
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_final.pth")

    second, checkpointer = build()
    extra = checkpointer.load(str(tmp_path / "model_0000001.pth"))
    assert extra == {"iteration": 1} and second.iter == 1
    second.train(second.iter + 1, 4)
    assert torch.equal(second.model.w, uninterrupted.model.w)
    assert second.storage.latest()["lr"] == (pytest.approx(0.1 * 0.25), 3)


def test_a_parameter_scheduler_is_a_multiple_of_the_rate():
    trainer = trainer_of([0.0] * 4, lr=2.0)
    trainer.register_hooks([hooks.LRScheduler(scheduler=LinearParamScheduler(1.0, 0.0))])
    trainer.train(0, 4)
    rates = [value for value, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([2.0, 1.5, 1.0, 0.5])


def test_warmup():
    linear = WarmupParamScheduler(LinearParamScheduler(1.0, 0.0), 0.1, 0.5)
    assert [linear(x) for x in (0, 0.25, 0.5, 0.75)] == pytest.approx([0.1, 0.3, 0.5, 0.25])
    constant = WarmupParamScheduler(ConstantParamScheduler(1.0), 0.1, 0.5, "constant")
    assert [constant(x) for x in (0, 0.4, 0.6)] == pytest.approx([0.1, 0.1, 1.0])
    with pytest.raises(ValueError):
        WarmupParamScheduler(ConstantParamScheduler(1.0), 0.1, 0.5, "other")


def test_evaluation_is_periodic_and_at_the_end():
    evaluated = []

    def evaluate():
        evaluated.append(get_event_storage().iter)
        return {"box": {"AP": 2.0, "size": {"small": 1}}}

    trainer = trainer_of([0.0] * 4)
    trainer.register_hooks([hooks.EvalHook(2, evaluate)])
    trainer.train(0, 4)
    assert evaluated == [1, 4]
    latest = trainer.storage.latest()
    assert latest["box/AP"] == (2.0, 4) and latest["box/size/small"] == (1.0, 4)

    trainer = trainer_of([0.0] * 4)
    trainer.register_hooks([hooks.EvalHook(0, evaluate, eval_after_train=False)])
    trainer.train(0, 4)
    assert evaluated == [1, 4]


def test_writers_are_called_periodically_and_closed():
    class Writer(EventWriter):
        calls = []

        def write(self):
            self.calls.append(get_event_storage().iter)

        def close(self):
            self.calls.append("closed")

    trainer = trainer_of([0.0] * 5)
    trainer.register_hooks(
        [hooks.IterationTimer(warmup_iter=2), hooks.PeriodicWriter([Writer()], 2)]
    )
    trainer.train(0, 5)
    assert Writer.calls == [1, 3, 4, 5, "closed"]
    assert [i for _, i in trainer.storage.history("time").values()] == [1, 2, 3, 4]


def test_callbacks():
    calls = []
    trainer = trainer_of([0.0])
    names = ("before_train", "before_step", "after_step", "after_train")
    callbacks = {n: lambda trainer, n=n: calls.append((n, trainer.iter)) for n in names}
    trainer.register_hooks([hooks.CallbackHook(**callbacks), hooks.CallbackHook()])
    trainer.train(0, 1)
    assert calls == [("before_train", 0), ("before_step", 0), ("after_step", 0), ("after_train", 1)]


def test_default_trainer_delegates():
    class Trainer(DefaultTrainer):
        def __init__(self):
            TrainerBase.__init__(self)
            self._trainer = trainer_of([0.0] * 3)

    trainer = Trainer()
    TrainerBase.train(trainer, 0, 3)
    assert trainer.model is trainer._trainer.model and trainer.optimizer and trainer.data_loader
    assert trainer._trainer.iter == 2
    for name in ("model", "data_loader", "optimizer"):  # as a hook may replace them
        setattr(trainer, name, value := getattr(trainer_of([]), name))
        assert getattr(trainer._trainer, name) is value
    other = Trainer()
    other.load_state_dict(trainer.state_dict())
    assert other.iter == 3 and other._trainer.iter == 2
    assert trainer.state_dict()["_trainer"].keys() == {"iteration", "optimizer"}


def test_command_line():
    parser = default_argument_parser()
    line = "--config-file a.py --eval-only --num-gpus 2 --num-machines 3 --machine-rank 1"
    args = parser.parse_args([*line.split(), "--dist-url", "tcp://h:1", "a.b=1", "c=2"])
    assert vars(args) == {
        "config_file": "a.py",
        "resume": False,
        "eval_only": True,
        "num_gpus": 2,
        "num_machines": 3,
        "machine_rank": 1,
        "dist_url": "tcp://h:1",
        "opts": ["a.b=1", "c=2"],
    }


@pytest.fixture
def seeds():
    """Restores the random generators."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    hash_seed = os.environ.get("PYTHONHASHSEED")
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    os.environ.pop("PYTHONHASHSEED", None)
    if hash_seed is not None:
        os.environ["PYTHONHASHSEED"] = hash_seed


def test_setup(tmp_path, seeds):
    config = tmp_path / "a.yaml"
    config.write_text("train: {}")
    cfg = OmegaConf.create({"train": {"output_dir": str(tmp_path / "out"), "seed": 7}})
    args = argparse.Namespace(config_file=str(config), eval_only=True)
    default_setup(cfg, args)
    assert torch.initial_seed() == 7
    assert random.random() == random.Random(7).random()
    assert np.random.rand() == np.random.RandomState(7).rand()
    assert LazyConfig.load(str(tmp_path / "out" / "config.yaml")).train.seed == 7
    assert "Command line arguments" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.parametrize("cfg", [{}, {"train": {"seed": 8}}, {"train": {"output_dir": None}}])
def test_setup_without_an_output_folder(cfg, tmp_path, monkeypatch, seeds):
    monkeypatch.chdir(tmp_path)
    default_setup(OmegaConf.create(cfg), argparse.Namespace(config_file=""))
    assert not list(tmp_path.iterdir())
    assert torch.initial_seed() == 8 or "seed" not in cfg.get("train", {})


def test_setup_with_the_output_folder_at_the_top(tmp_path, seeds):
    default_setup(OmegaConf.create({"output_dir": str(tmp_path / "out")}), argparse.Namespace())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.yaml", "log.txt"}


def test_one_process_needs_no_wrapper_and_no_spawn(tmp_path):
    model, launched = Square(), []
    assert create_ddp_model(model, broadcast_buffers=False, fp16_compression=False) is model
    for processes in (0, 1):
        launch(launched.append, processes, args=(processes,))
    assert launched == [0, 1]
    writers = default_writers(str(tmp_path / "new"), 5)
    assert len(writers) == 3 and (tmp_path / "new").is_dir()
