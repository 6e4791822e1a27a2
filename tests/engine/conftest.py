"""A toy training: its model and data in toy_training.py, its config in toy_config.py."""

import signal
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the config names its classes by module


@pytest.fixture(autouse=True)
def signal_handlers():
    """Puts back those that a training leaves when it ends with an error."""
    from fsdbev.engine.stopping import STOP_SIGNALS

    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]
    yield
    for number, handler in zip(STOP_SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_pictures_of_curves(request, monkeypatch):
    """Drawing curves.png takes longer than a toy training: only test_curves.py does."""
    if request.path.stem != "test_curves":
        monkeypatch.setattr("fsdbev.engine.curves.draw_curves", lambda record, folder: None)


@pytest.fixture
def toy_config(tmp_path):
    """Makes the toy config with overrides, its output in a folder of the test."""
    from fsdbev.d2.config import LazyConfig
    from fsdbev.engine.overrides import apply_overrides

    def make(*overrides, output="output"):
        cfg = LazyConfig.load(str(HERE / "toy_config.py"))
        cfg.train.output_dir = str(tmp_path / output)
        return apply_overrides(cfg, overrides)

    return make
