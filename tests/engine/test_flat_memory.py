"""A long training keeps what it needs, and no more."""

import ctypes
import json
import os
from pathlib import Path

import pytest

from fsdbev.engine import Trainer, flat_memory


def lengths(trainer):
    return {name: len(h.values()) for name, h in trainer.storage.histories().items()}


def test_a_training_keeps_the_last_values_alone(toy_config, monkeypatch):
    monkeypatch.setattr(flat_memory, "KEPT", 5)
    trainer = Trainer(toy_config("train.max_iter=12"))
    trainer.train()
    found = lengths(trainer)
    assert found["loss_main"] == found["total_loss"] == found["lr"] == 5
    assert max(found.values()) == 5
    assert trainer.storage.history("lr").values()[-1][1] == 11


def test_what_is_written_is_the_same(toy_config, monkeypatch):
    written = []
    for number, kept in enumerate([10**6, flat_memory.KEPT]):
        monkeypatch.setattr(flat_memory, "KEPT", kept)
        cfg = toy_config("train.max_iter=12", output=f"run{number}")
        Trainer(cfg).train()
        with open(f"{cfg.train.output_dir}/metrics.json") as file:
            written.append([json.loads(line)["total_loss"] for line in file if "total" in line])
    assert written[0] == written[1] and len(written[0]) == 12


def test_the_longest_look_back_is_kept(toy_config, monkeypatch):
    from fvcore.common.history_buffer import HistoryBuffer

    windows = []
    for name in ("median", "avg"):
        plain = getattr(HistoryBuffer, name)

        def watched(self, window_size, plain=plain):
            windows.append(window_size)
            return plain(self, window_size)

        monkeypatch.setattr(HistoryBuffer, name, watched)
    Trainer(toy_config("train.max_iter=3")).train()
    assert windows and max(windows) <= flat_memory.KEPT


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_memory_that_nothing_uses_goes_back_to_the_system():
    def resident():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    blocks = [bytearray(100_000) for _ in range(1000)]
    del blocks[:-1]  # the last holds the end of the heap
    before = resident()
    flat_memory.give_back_memory()
    assert before - resident() > 50e6
