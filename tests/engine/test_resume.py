"""What a resumed training says of where it runs."""

import pytest
import torch

from fsdbev.engine.resume import RunConditions, describe_changes

HERE = {"world_size": 1, "batch_size": 2, "precision": torch.bfloat16, "device": "cpu"}


def test_the_same_run_differs_in_nothing():
    facts = RunConditions.now(**HERE)
    assert describe_changes(facts.to_dict(), facts) == []


@pytest.mark.parametrize("name", RunConditions.__dataclass_fields__)
def test_each_fact_that_is_another_is_named_with_what_follows(name):
    facts = RunConditions.now(**HERE)
    before = {**facts.to_dict(), name: "another"}
    (said,) = describe_changes(before, facts)
    assert said.startswith(f"{name} was 'another' and is {facts.to_dict()[name]!r}: ")


def test_what_an_older_checkpoint_lacks_is_not_compared():
    facts = RunConditions.now(**HERE)
    before = facts.to_dict()
    del before["processor"]
    assert describe_changes(before, facts) == []


def test_instructions_belong_to_the_processor(monkeypatch):
    """With others a training ends with other metrics (README.md, results)."""
    name, _, instructions = RunConditions.now(**HERE).processor.rpartition(", ")
    assert name and instructions == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other")
    assert RunConditions.now(**HERE).processor == f"{name}, other"
