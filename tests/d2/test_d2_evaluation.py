"""The evaluation loop. Runs on the built-in and on Detectron2."""

import logging
import time

import pytest
import torch
from torch import nn

from fsdbev.d2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
    print_csv_format,
)


class Recorder(DatasetEvaluator):
    """Evaluator that records its calls and returns their number."""

    def __init__(self, task="task", results=True):
        self.calls = []
        self._task, self._results = task, results

    def reset(self):
        self.calls = ["reset"]

    def process(self, inputs, outputs):
        self.calls.append((inputs, outputs))

    def evaluate(self):
        return {self._task: {"count": len(self.calls) - 1}} if self._results else None


class Probe(nn.Module):
    """Model that returns the modes it runs in."""

    def __init__(self):
        super().__init__()
        self.part = nn.Dropout()

    def forward(self, inputs):
        return self.training, self.part.training, torch.is_grad_enabled()


@pytest.mark.parametrize("training", [True, False])
def test_the_loop(training):
    model, recorder = Probe().train(training), Recorder()
    results = inference_on_dataset(model, ["a", "b", "c"], recorder)
    assert results == {"task": {"count": 3}}
    modes = (False, False, False)
    assert recorder.calls == ["reset", ("a", modes), ("b", modes), ("c", modes)]
    assert model.training is training and model.part.training is training
    assert torch.is_grad_enabled()


def test_any_callable_is_a_model():
    recorder = Recorder()
    inference_on_dataset(lambda x: 2 * x, [1], recorder)
    assert recorder.calls == ["reset", (1, 2)]


@pytest.mark.parametrize("evaluator", [None, [], Recorder(results=False)])
def test_no_results_are_an_empty_dict(evaluator):
    assert inference_on_dataset(Probe(), [1], evaluator) == {}


def test_a_list_of_evaluators():
    evaluators = [Recorder("a"), Recorder("b"), Recorder("c", False)]
    results = inference_on_dataset(Probe(), [1], evaluators)
    assert results == {"a": {"count": 1}, "b": {"count": 1}}
    with pytest.raises((AssertionError, ValueError), match="same"):
        inference_on_dataset(Probe(), [1], [Recorder("same"), Recorder("same")])


def test_evaluators_as_one():
    parts = [Recorder("a"), Recorder("b")]
    evaluators = DatasetEvaluators(parts)
    assert isinstance(evaluators, DatasetEvaluator)
    evaluators.reset()
    evaluators.process("inputs", "outputs")
    assert evaluators.evaluate() == {"a": {"count": 1}, "b": {"count": 1}}
    assert parts[0].calls == parts[1].calls == ["reset", ("inputs", "outputs")]


@pytest.mark.parametrize("training", [True, False])
def test_eval_mode_inside_a_block(training):
    model = Probe().train(training)
    with inference_context(model):
        assert not model.training and not model.part.training
    assert model.training is training and model.part.training is training


def test_callbacks():
    calls = []
    stages = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {stage: lambda stage=stage: calls.append(stage) for stage in stages}
    inference_on_dataset(calls.append, ["a", "b"], None, callbacks=callbacks)
    inner = [("before_inference", batch, "after_inference") for batch in "ab"]
    assert calls == ["on_start", *inner[0], *inner[1], "on_end"]
    inference_on_dataset(str, ["c"], None, callbacks={"on_end": lambda: calls.append("only")})
    assert calls[-1] == "only"


def test_progress_is_logged(caplog, monkeypatch):
    for clock in ("time", "monotonic"):  # the last log message is longer ago than its interval
        later = getattr(time, clock)() + 1000
        monkeypatch.setattr(time, clock, lambda later=later: later)
    with caplog.at_level(logging.INFO):
        inference_on_dataset(Probe(), list(range(20)), None)
    assert "Start inference on 20 batches" in caplog.text
    assert "ETA=" in caplog.text
    assert "Total inference time" in caplog.text


def test_csv_lines(caplog):
    with caplog.at_level(logging.INFO):
        print_csv_format({"detection": {"mAP": 0.25, "NDS": 1, "AP-car": 0.5}, "seconds": 3})
    assert caplog.messages == [
        "copypaste: Task: detection",
        "copypaste: mAP,NDS",
        "copypaste: 0.2500,1.0000",
        "copypaste: seconds=3",
    ]
