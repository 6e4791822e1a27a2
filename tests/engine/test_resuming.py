"""What a resumed training says of where it runs."""

import os
import subprocess
import sys

import pytest
import torch

from fsdbev.engine.resuming import RunFacts, differences

HERE = {"world_size": 1, "batch_size": 2, "precision": torch.bfloat16, "device": "cpu"}
PROCESSOR = "from fsdbev.engine.resuming import RunFacts; print(RunFacts.now({}).processor)"


def test_the_same_run_differs_in_nothing():
    facts = RunFacts.now(**HERE)
    assert differences(facts.to_dict(), facts) == []


@pytest.mark.parametrize("name", RunFacts.__dataclass_fields__)
def test_each_fact_that_is_another_is_named_with_what_follows(name):
    facts = RunFacts.now(**HERE)
    before = {**facts.to_dict(), name: "another"}
    (said,) = differences(before, facts)
    assert said.startswith(f"{name} was 'another' and is {facts.to_dict()[name]!r}: ")


def test_what_an_older_checkpoint_lacks_is_not_compared():
    facts = RunFacts.now(**HERE)
    before = facts.to_dict()
    del before["processor"]
    assert differences(before, facts) == []


def test_instructions_belong_to_the_processor():
    """With others a training ends with other metrics (README.md, results)."""
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("PyTorch has no others for this processor")
    options = "world_size=1, batch_size=2, precision=None, device='cpu'"
    others = subprocess.run(
        [sys.executable, "-c", PROCESSOR.format(options)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
    ).stdout.strip()
    name, _, instructions = RunFacts.now(**HERE).processor.rpartition(", ")
    assert others == f"{name}, DEFAULT" and instructions != "DEFAULT"
