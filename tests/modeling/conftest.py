"""A small model, built from the recipe by overrides, and random samples for it."""

import math
import pathlib

import pytest
import torch

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.d2.structures import Instances
from fsdbev.structures import Boxes3D, make_transform, rotation_z

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
RECIPE = "common/models/fsdbev_r50.py"
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


@pytest.fixture
def load_config():
    """Overrides -> the resolved recipe, or that of another config file."""

    def load(*overrides, file=RECIPE):
        return LazyConfig.apply_overrides(LazyConfig.load(str(CONFIGS / file)), list(overrides))

    return load


@pytest.fixture
def build_model(load_config):
    """Overrides on top of the small sizes -> a model with seeded weights."""

    def build(*overrides, file=RECIPE):
        config = load_config(*SMALL, *overrides, file=file)
        torch.manual_seed(0)
        return instantiate(config.model)

    return build


@pytest.fixture
def make_samples():
    """A batch of random samples of any rig, with labels if ``training``."""
    return random_samples


def random_samples(batch_size=2, num_frames=2, num_cameras=6, training=False):
    generator = torch.Generator().manual_seed(1)
    return [_random_sample(generator, num_frames, num_cameras, training) for _ in range(batch_size)]


def _random_sample(generator, num_frames, num_cameras, training):
    height, width = IMAGE_SIZE
    shape = (num_frames, num_cameras)

    def rand(*size):
        return torch.rand(*size, generator=generator)

    optical = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # camera axes in ego axes
    yaw = torch.arange(num_cameras) * (2 * math.pi / num_cameras)
    cam2ego = make_transform(rotation_z(yaw) @ optical, torch.tensor([1.0, 0, 1.5]))
    ego2global = torch.eye(4).repeat(*shape, 1, 1)
    ego2global[..., 0, 3] = 500 - 2 * torch.arange(num_frames)[:, None]
    intrinsics = torch.tensor([[1000.0, 0, 800], [0, 1000, 450], [0, 0, 1]])
    sample = {
        "images": (255 * rand(*shape, 3, height, width)).to(torch.uint8),
        "cam2ego": cam2ego.expand(*shape, 4, 4),
        "ego2global": ego2global,
        "intrinsics": intrinsics.expand(*shape, 3, 3),
        "image_aug": torch.diag(torch.tensor([width / 1600, height / 900, 1, 1])).repeat(
            num_cameras, 1, 1
        ),
        "bev_aug": torch.eye(4),
    }
    if training:
        sample["gt_depth"] = rand(*shape, height, width) * 70 * (rand(*shape, height, width) < 0.05)
        sample["gt_foreground"] = rand(*shape, height, width) < 0.3
        heatmap = rand(num_cameras, 10, height // 4, width // 4)
        sample["gt_heatmap"] = heatmap * (heatmap > 0.9)
        instances = Instances(IMAGE_SIZE)
        low = torch.tensor([-40.0, -40, -1, 1, 1, 1, -3, -2, -2])
        high = torch.tensor([40.0, 40, 1, 5, 3, 2, 3, 2, 2])
        instances.gt_boxes_3d = Boxes3D(low + rand(5, 9) * (high - low))
        instances.gt_classes = torch.arange(5) * 2
        sample["instances"] = instances
    return sample
