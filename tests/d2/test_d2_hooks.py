"""Hooks for checkpoints, statistics and profiles. Runs on the built-in and on Detectron2."""

import json
import logging
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from fsdbev.d2.engine import SimpleTrainer, hooks
from fsdbev.d2.utils.events import get_event_storage, has_event_storage


class Line(nn.Module):
    """Model with one loss, w times the batch."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        return {"loss": self.w * batch}


def trainer_of(iterations, *registered, optimizer=None):
    """Returns the trainer of the registered hooks after its iterations."""
    model = Line()
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = SimpleTrainer(model, [1.0] * iterations, optimizer)
    trainer.register_hooks(registered)
    trainer.train(0, iterations)
    return trainer


@pytest.mark.parametrize(
    ("sizes", "rates", "index"),
    [
        ([1, 3, 2], [0.1, 0.2, 0.1], 1),  # the group with the most parameters
        ([2, 2, 1], [0.1, 0.2, 0.2], 0),  # the first of two
        ([1, 1, 1], [0.1, 0.2, 0.2], 1),  # one parameter each: the most common rate
        ([1, 1, 1, 1], [0.1, 0.2, 0.2, 0.1], 0),
        ([4], [0.1], 0),
    ],
)
def test_parameter_group_whose_learning_rate_is_logged(sizes, rates, index):
    groups = [
        {"params": [nn.Parameter(torch.zeros(())) for _ in range(size)], "lr": lr}
        for size, lr in zip(sizes, rates, strict=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    assert hooks.LRScheduler.get_best_param_group_id(optimizer) == index
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    trainer = trainer_of(2, hooks.LRScheduler(scheduler=scheduler), optimizer=optimizer)
    logged = [value for value, _ in trainer.storage.history("lr").values()]
    assert logged == pytest.approx([rates[index], rates[index] / 2])


class Saved(list):
    """Checkpointer that records what it would save."""

    def save(self, name, **extra):
        self.append((name, extra))


def best_of(metrics, *, iterations=4, period=1, **options):
    """Returns the iterations that BestCheckpointer saves for the metrics of the evaluations."""
    values, saved = iter(metrics), Saved()
    evaluate = hooks.EvalHook(period, lambda: {"box": {"AP": next(values)}})
    best = hooks.BestCheckpointer(period, saved, "box/AP", **options)
    trainer_of(iterations, evaluate, best)
    assert all(name == options.get("file_prefix", "model_best") for name, _ in saved)
    return [extra["iteration"] for _, extra in saved], best


def test_best_checkpoint():
    saved, hook = best_of([0.3, 0.4, 0.35, 0.5])
    assert saved == [0, 1, 4]  # the last evaluation follows the last iteration
    assert (hook.best_metric, hook.best_iter) == (0.5, 4)
    assert best_of([1.0, 0.8, 0.9, 0.8], mode="min", file_prefix="low")[0] == [0, 1]
    assert best_of([math.nan, 0.2, math.nan, 0.1])[0] == [1]
    assert best_of([0.3, 0.4], iterations=5, period=3)[0] == [2, 5]
    with pytest.raises(AssertionError, match="highest"):
        hooks.BestCheckpointer(1, Saved(), "box/AP", mode="highest")


def test_a_metric_that_nobody_stores_is_a_warning(caplog):
    saved = Saved()
    with caplog.at_level(logging.WARNING):
        trainer_of(1, hooks.BestCheckpointer(1, saved, "box/AP"))
    assert saved == [] and "box/AP" in caplog.text


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, batch):
        if has_event_storage():
            get_event_storage().put_scalar("from the model", 1.0)
        return self.norm(batch)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of fvcore.nn
def test_precise_batch_norm():
    model, batches = Normalized(), [torch.full((2, 1), value) for value in (1.0, 3.0, 5.0, 9.0)]
    hook = hooks.PreciseBN(2, model, DataLoader(batches, batch_size=None), 2)
    means = []
    record = hooks.CallbackHook(after_step=lambda _: means.append(model.norm.running_mean.item()))
    trainer = trainer_of(4, hook, record)
    # after iteration 1 the mean of two batches; after the last one, that of the next two
    assert means == pytest.approx([0.0, 2.0, 2.0, 7.0])
    assert "from the model" not in trainer.storage.histories()


def test_precise_batch_norm_without_layers_in_training_mode(caplog):
    model = Normalized().eval()
    with caplog.at_level(logging.INFO):
        hook = hooks.PreciseBN(1, model, [], 1)
    trainer_of(1, hook)
    hook.update_stats()
    assert "disabled" in caplog.text and model.norm.running_mean.item() == 0


def test_profiles(tmp_path):
    def profiled(trainer):
        return trainer.iter == 1

    activities = [torch.profiler.ProfilerActivity.CPU]
    trainer_of(
        3,
        hooks.TorchProfiler(
            profiled, str(tmp_path / "a"), activities=activities, save_tensorboard=False
        ),
    )
    (path,) = (tmp_path / "a").iterdir()
    assert path.name == "profiler-trace-iter1.json"
    names = {event.get("name") for event in json.loads(path.read_text())["traceEvents"]}
    assert "aten::mul" in names  # of the model
    trainer_of(3, hooks.TorchProfiler(profiled, str(tmp_path / "b"), activities=activities))
    (folder,) = (tmp_path / "b" / "log").iterdir()
    assert folder.name == "profiler-tensorboard-iter1"
    assert [file.name.split(".")[0] for file in folder.iterdir()] == ["worker0"]


def test_memory_statistics(monkeypatch, caplog):
    calls = []
    sizes = ("max_memory_reserved", "memory_reserved", "max_memory_allocated", "memory_allocated")
    for number, name in enumerate(sizes, start=1):
        monkeypatch.setattr(torch.cuda, name, lambda number=number: number * 2**20)
    monkeypatch.setattr(torch.cuda, "memory_summary", lambda: "the summary")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.INFO):
        trainer_of(4, hooks.TorchMemoryStats(period=2))
        assert calls == [] and "MB" not in caplog.text
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        trainer_of(5, hooks.TorchMemoryStats(period=2, max_runs=3))
    assert len(calls) == 3  # two periods and the last iteration
    lines = [message for message in caplog.messages if "MB" in message]
    assert len(lines) == 3 and "iter: 4" in lines[-1]
    assert all(f"{number}MB" in lines[0] for number in (1, 2, 3, 4))
    assert caplog.text.count("the summary") == 1
