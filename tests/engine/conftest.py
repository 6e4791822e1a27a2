"""Fixtures of a toy training; toy_training.py and toy_config.py have its model, data and config."""

import signal
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# The configs import these modules by name.
sys.path[:0] = [str(HERE), str(HERE.parent / "export"), str(HERE.parent / "inference")]


@pytest.fixture(autouse=True)
def signal_handlers():
    """Restores the signal handlers, which a training does not restore after an error."""
    from fsdbev.utils.processes import STOP_SIGNALS

    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]
    yield
    for number, handler in zip(STOP_SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_pictures_of_curves(request, monkeypatch):
    """Disables curves.png except in test_curves.py: drawing it takes longer than a toy training."""
    if request.path.stem != "test_curves":
        monkeypatch.setattr("fsdbev.engine.hooks.curves.draw_curves", lambda record, folder: None)


@pytest.fixture
def toy_config(tmp_path):
    """Returns the toy config: toy_config(*overrides, output=name of the output folder)."""
    from fsdbev.config.overrides import apply_overrides
    from fsdbev.d2.config import LazyConfig

    def make(*overrides, output="output"):
        cfg = LazyConfig.load(str(HERE / "toy_config.py"))
        cfg.train.output_dir = str(tmp_path / output)
        return apply_overrides(cfg, overrides)

    return make
