"""What the tests of all packages share."""

import logging
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import settings

# A run is as the one before: what is found at random belongs where somebody looks for it, with
# --hypothesis-profile thorough or FSDBEV_FUZZ (tests/bad_inputs/test_fuzzing.py).
settings.register_profile("suite", derandomize=True)
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests, and only those")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; runs with --slow alone")


def pytest_collection_modifyitems(config, items):
    """Leaves out the slow tests, or with ``--slow`` all others."""
    chosen = config.getoption("--slow")
    is_chosen = [(item.get_closest_marker("slow") is not None) == chosen for item in items]
    config.hook.pytest_deselected(items=[i for i, c in zip(items, is_chosen, strict=True) if not c])
    items[:] = [item for item, c in zip(items, is_chosen, strict=True) if c]


@pytest.fixture(autouse=True)
def loggers():
    """Puts back what a test that sets up logging changes, so that the next ones log as usual."""
    loggers = [logging.getLogger(name) for name in ("fsdbev", "fvcore", "detectron2")]
    before = [(one.level, one.propagate, one.handlers[:]) for one in loggers]
    yield
    for one, (level, one.propagate, one.handlers[:]) in zip(loggers, before, strict=True):
        one.setLevel(level)


@pytest.fixture
def no_process_left():
    """The test leaves no process of its own behind; other tests' loaders may keep theirs."""
    before = set(multiprocessing.active_children())
    yield
    assert not set(multiprocessing.active_children()) - before


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory) -> Path:
    """Data root of a prepared synthetic set, version v1.0-synth: synth_train and synth_val, one
    scene of three frames each, six cameras of 160 x 90. Shared by the session: don't write to it.
    """
    from fsdbev.data.nuscenes.prepare import prepare_nuscenes
    from fsdbev.data.synthetic import SyntheticOptions, generate

    root = tmp_path_factory.mktemp("synthetic") / "data"
    sizes = {"scenes_train": 1, "scenes_val": 1, "frames": 3, "image_size": (160, 90)}
    options = SyntheticOptions(**sizes, seed=2)  # here every class is within its evaluation range
    generate(root, options)
    prepare_nuscenes(dataroot=root, version="v1.0-synth")
    return root
