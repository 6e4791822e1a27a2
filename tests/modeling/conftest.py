"""A small model, which overrides of the model config make, and fake samples for it."""

import copy
import functools
import pathlib

import pytest
import torch

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.data.fake import fake_samples

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
MODEL_FILE = "common/models/fsdbev_r50.py"
SMALL = [
    "model.grid.cell=6.4",
    "model.depth_bins.step=4.0",
    "model.backbone.depth=18",
    "model.backbone.width=4",
    "model.neck.out_channels=8",
    "model.depth_net.mid_channels=8",
    "model.depth_net.context_channels=4",
    "model.depth_net.aspp_channels=4",
    "model.bev_encoder.out_channels=8",
    "model.head.shared_channels=4",
    "model.head.branch_channels=4",
    "model.head.max_candidates=20",
]
IMAGE_SIZE = (32, 64)


def _load(*overrides, file=MODEL_FILE):
    return LazyConfig.apply_overrides(LazyConfig.load(str(CONFIGS / file)), list(overrides))


@functools.cache
def _built(*overrides, file):
    config = _load(*SMALL, *overrides, file=file)
    torch.manual_seed(0)
    return instantiate(config.model)


@pytest.fixture
def load_config():
    """Function: overrides -> the model config with them, or another config file with them."""
    return _load


@pytest.fixture
def build_model():
    """Function: overrides on top of ``SMALL`` -> a model with seeded weights."""

    def build(*overrides, file=MODEL_FILE):
        model = copy.deepcopy(_built(*overrides, file=file))
        torch.manual_seed(0)  # the same state whether the model comes from the cache or not
        return model

    return build


@pytest.fixture
def make_samples():
    """Function: sizes -> a batch of fake samples, with labels if ``training``."""

    def make(batch_size=2, num_frames=2, num_cameras=2, training=False):
        sizes = {"num_frames": num_frames, "num_cameras": num_cameras, "image_size": IMAGE_SIZE}
        return fake_samples(batch_size, **sizes, training=training)

    return make
