"""Conditions of a run that a resumed training compares and logs."""

import pytest
import torch

from fsdbev.engine.resume import RunConditions, describe_changes

HERE = {"world_size": 1, "batch_size": 2, "precision": torch.bfloat16, "device": "cpu"}


@pytest.mark.parametrize("name", RunConditions.__dataclass_fields__)
def test_each_fact_that_is_another_is_named_with_what_follows(name):
    conditions = RunConditions.now(**HERE)
    before = {**conditions.to_dict(), name: "another"}
    (message,) = describe_changes(before, conditions)
    assert message.startswith(f"{name} was 'another' and is {conditions.to_dict()[name]!r}: ")


def test_equal_conditions_and_those_missing_in_an_older_checkpoint_are_not_logged():
    conditions = RunConditions.now(**HERE)
    before = conditions.to_dict()
    assert describe_changes(before, conditions) == []
    del before["processor"]
    assert describe_changes(before, conditions) == []


def test_the_processor_includes_its_instruction_set(monkeypatch):
    """With another one a training ends with other metrics (README.md, results)."""
    name, _, instructions = RunConditions.now(**HERE).processor.rpartition(", ")
    assert name and instructions == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other")
    assert RunConditions.now(**HERE).processor == f"{name}, other"
