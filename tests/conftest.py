"""Options and fixtures of all tests."""

import logging
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import settings

import fsdbev  # noqa: F401  before torch: sets how its threads wait

# The suite runs the same examples each time; --hypothesis-profile thorough and FSDBEV_FUZZ
# (tests/bad_inputs/test_fuzzing.py) search for new ones.
settings.register_profile("suite", derandomize=True)
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run only the slow tests")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; runs with --slow only")


def pytest_collection_modifyitems(config, items):
    """Deselects the slow tests, or with ``--slow`` all others."""
    slow = config.getoption("--slow")
    is_selected = [(item.get_closest_marker("slow") is not None) == slow for item in items]
    pairs = list(zip(items, is_selected, strict=True))
    config.hook.pytest_deselected(items=[item for item, selected in pairs if not selected])
    items[:] = [item for item, selected in pairs if selected]


@pytest.fixture(autouse=True)
def loggers():
    """Restores the loggers after a test that sets up logging."""
    loggers = [logging.getLogger(name) for name in ("fsdbev", "fvcore", "detectron2")]
    before = [(one.level, one.propagate, one.handlers[:]) for one in loggers]
    yield
    for one, (level, one.propagate, one.handlers[:]) in zip(loggers, before, strict=True):
        one.setLevel(level)


@pytest.fixture
def no_process_left():
    """Checks that the test leaves no process; the loaders of other tests may keep theirs."""
    before = set(multiprocessing.active_children())
    yield
    assert not set(multiprocessing.active_children()) - before


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory) -> Path:
    """Data root of a prepared synthetic set, version v1.0-synth. Do not write to it.

    The splits synth_train and synth_val have one scene of three frames each, from six cameras of
    160 x 90 pixels.
    """
    from fsdbev.data.nuscenes.prepare import prepare_nuscenes
    from fsdbev.data.synthetic import SyntheticOptions, generate

    root = tmp_path_factory.mktemp("synthetic") / "data"
    sizes = {"scenes_train": 1, "scenes_val": 1, "frames": 3, "image_size": (160, 90)}
    options = SyntheticOptions(**sizes, seed=2)  # every class is within its evaluation range
    generate(root, options)
    prepare_nuscenes(dataroot=root, version="v1.0-synth")
    return root
