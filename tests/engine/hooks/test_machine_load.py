"""Warning of a busy machine."""

import os
from types import SimpleNamespace

import pytest

from fsdbev.engine.hooks import machine_load
from fsdbev.engine.hooks.machine_load import MachineLoad


@pytest.fixture
def run(monkeypatch):
    """run(load, *seconds): a training of iterations with these times; returns the hook."""
    clock = [0.0]
    monkeypatch.setattr(machine_load.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(machine_load.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    def train(*seconds, load):
        hook = MachineLoad()
        hook.before_train()
        for number, time in enumerate(seconds):
            monkeypatch.setattr(os, "getloadavg", lambda: (load, 1.0, 1.0))
            hook.trainer = SimpleNamespace(iter=number)
            hook.before_step()
            clock[0] += time
            hook.after_step()

    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 1.0, 1.0))
    return train


def test_a_slow_iteration_on_a_busy_machine(run, caplog):
    run(1.2, 1.0, 19.2, 20.0, *[1.0] * 600, 5.0, load=4.1)
    text = "Iteration 2 took 19.2 s, the fastest one 1.0 s: the load of this machine is 4.1 on 2 "
    first, second = (record.message for record in caplog.records)
    assert first.startswith(text) and "OMP_WAIT_POLICY=PASSIVE" in first and "OMP_NUM_TH" in first
    assert second.startswith("Iteration 604 took 5.0 s"), "once in ten minutes"


def test_other_reasons_and_other_loads(run, caplog):
    run(1.0, 19.2, load=2.9)
    run(1.0, 2.9, load=4.1)
    assert not caplog.records


def test_a_machine_that_is_busy_before(run, monkeypatch, caplog):
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 1.0, 1.0))
    run(1.0, load=3.0)
    assert "Iterations may be slow: the load of this machine is 3.0 on 2 cores" in caplog.text
