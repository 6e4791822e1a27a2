"""The event storage of a long training keeps the values that writers need, and no more."""

from fsdbev.engine import Trainer
from fsdbev.engine.hooks import iteration as histories


def test_a_training_keeps_the_last_values_alone(toy_config, monkeypatch):
    monkeypatch.setattr(histories, "KEPT", 5)
    trainer = Trainer(toy_config("train.max_iter=12"))
    trainer.train()
    found = {name: len(h.values()) for name, h in trainer.storage.histories().items()}
    assert found["loss_main"] == found["total_loss"] == found["lr"] == 5
    assert max(found.values()) == 5
    assert trainer.storage.history("lr").values()[-1][1] == 11


def test_the_longest_window_of_a_writer_is_kept(toy_config, monkeypatch):
    from fvcore.common.history_buffer import HistoryBuffer

    windows = []
    for name in ("median", "avg"):
        plain = getattr(HistoryBuffer, name)

        def watched(self, window_size, plain=plain):
            windows.append(window_size)
            return plain(self, window_size)

        monkeypatch.setattr(HistoryBuffer, name, watched)
    Trainer(toy_config("train.max_iter=3")).train()
    assert windows and max(windows) <= histories.KEPT
