"""A toy training: its model and data in toy_training.py, its config in toy_config.py; and the
small model of the exports."""

import signal
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# the configs name their classes by module
sys.path[:0] = [str(HERE), str(HERE.parent / "export"), str(HERE.parent / "inference")]


@pytest.fixture(autouse=True)
def signal_handlers():
    """Puts back those that a training leaves when it ends with an error."""
    from fsdbev.utils.processes import STOP_SIGNALS

    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]
    yield
    for number, handler in zip(STOP_SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_pictures_of_curves(request, monkeypatch):
    """Drawing curves.png takes longer than a toy training: only test_curves.py does."""
    if request.path.stem != "test_curves":
        monkeypatch.setattr("fsdbev.engine.hooks.curves.draw_curves", lambda record, folder: None)


@pytest.fixture
def toy_config(tmp_path):
    """Makes the toy config with overrides, its output in a folder of the test."""
    from fsdbev.config.overrides import apply_overrides
    from fsdbev.d2.config import LazyConfig

    def make(*overrides, output="output"):
        cfg = LazyConfig.load(str(HERE / "toy_config.py"))
        cfg.train.output_dir = str(tmp_path / output)
        return apply_overrides(cfg, overrides)

    return make
