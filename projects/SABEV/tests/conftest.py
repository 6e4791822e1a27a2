"""Small models of the configs, fake samples and random labels."""

from pathlib import Path

import pytest
import torch

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.modeling.depth_labels import downsample_labels

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture
def load():
    """Function that loads a config by name, with overrides."""

    def load(name, *overrides):
        return load_config(str(CONFIGS / f"{name}.py"), overrides)

    return load


@pytest.fixture
def build(load):
    """Function that builds the seeded model of a tiny config, reduced further, with overrides."""

    def build(name, *overrides):
        cfg = load(name, "model.grid.cell=7.0", "model.depth_bins.step=4.0", *overrides)
        torch.manual_seed(0)
        return instantiate(cfg.model)

    return build


@pytest.fixture
def samples():
    """Two samples with two frames, two cameras and labels."""
    return fake_samples(2, num_frames=2, num_cameras=2, image_size=(32, 64), training=True)


@pytest.fixture
def random_labels():
    """Function of (h, w) and bins that makes labels of four views; half of the cells have one."""

    def make(size, depth_bins, stride=8):
        generator = torch.Generator().manual_seed(2)
        shape = (4, size[0] * stride, size[1] * stride)
        depth = 1 + 59 * torch.rand(shape, generator=generator)
        depth *= torch.rand(shape, generator=generator) < 0.7 / stride**2
        foreground = torch.rand(shape, generator=generator) < 0.5
        return downsample_labels(depth, foreground, depth_bins, stride)

    return make
