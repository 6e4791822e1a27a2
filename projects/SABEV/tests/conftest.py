"""A small model of every config, and made-up samples and labels to learn from."""

import math
from pathlib import Path

import pytest
import torch

from fsdbev.d2.config import instantiate
from fsdbev.d2.structures import Instances
from fsdbev.engine import load_config
from fsdbev.modeling.depth_labels import downsample_labels
from fsdbev.structures import Boxes3D, make_transform, rotation_z

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = [
    "model.grid.cell=6.4",
    "model.depth_bins.step=4.0",
    "model.backbone.depth=18",
    "model.backbone.width=4",
    "model.neck.out_channels=8",
    "model.depth_net.mid_channels=6",
    "model.depth_net.context_channels=4",
    "model.depth_net.aspp_channels=4",
    "model.bev_encoder.out_channels=8",
    "model.head.shared_channels=4",
    "model.head.branch_channels=4",
    "model.head.max_candidates=20",
    "model.head.score_threshold=0.0",
]
IMAGE_SIZE = (32, 64)
NUM_CAMERAS = 2


@pytest.fixture
def build_model():
    """Name of a config and overrides -> a small model with seeded weights, in training mode."""

    def build(name, *overrides):
        cfg = load_config(str(CONFIGS / f"{name}.py"), [*SMALL, *overrides])
        torch.manual_seed(0)
        return instantiate(cfg.model)

    return build


@pytest.fixture
def make_sample():
    """Number of the key frame -> a sample with labels; the frame before it is its second one."""
    return _sample


def _sample(number=1):
    frames = [_frame(n) for n in (number, number - 1)]
    generator = torch.Generator().manual_seed(number)
    shape = (2, NUM_CAMERAS, *IMAGE_SIZE)
    depth = 1 + 59 * torch.rand(shape, generator=generator)
    low = torch.tensor([-40.0, -40, -1, 1, 1, 1, -3, -2, -2])
    high = torch.tensor([40.0, 40, 1, 5, 3, 2, 3, 2, 2])
    instances = Instances(IMAGE_SIZE)
    instances.gt_boxes_3d = Boxes3D(low + torch.rand(5, 9, generator=generator) * (high - low))
    instances.gt_classes = torch.arange(5) * 2
    return {
        **{key: torch.stack([frame[key] for frame in frames]) for key in frames[0]},
        "image_aug": torch.diag(torch.tensor([0.04, 0.04, 1, 1])).repeat(NUM_CAMERAS, 1, 1),
        "bev_aug": torch.eye(4),
        "gt_depth": depth * (torch.rand(shape, generator=generator) < 0.05),
        "gt_foreground": torch.rand(shape, generator=generator) < 0.3,
        "instances": instances,
        "scene_token": "scene",
        "frame_tokens": [str(number), str(number - 1)],
    }


def _frame(number):
    generator = torch.Generator().manual_seed(1000 + number)
    shape = (NUM_CAMERAS, 3, *IMAGE_SIZE)
    optical = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # camera axes in ego axes
    yaw = torch.arange(NUM_CAMERAS) * (2 * math.pi / NUM_CAMERAS)
    ego2global = torch.eye(4).repeat(NUM_CAMERAS, 1, 1)
    ego2global[:, 0, 3] = 500 + 2 * number
    intrinsics = torch.tensor([[1000.0, 0, 800], [0, 1000, 450], [0, 0, 1]])
    return {
        "images": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
        "cam2ego": make_transform(rotation_z(yaw) @ optical, torch.tensor([1.0, 0, 1.5])),
        "ego2global": ego2global,
        "intrinsics": intrinsics.repeat(NUM_CAMERAS, 1, 1),
    }


@pytest.fixture
def random_labels():
    """(h, w), bins -> labels of four views, about half of the cells with a point."""

    def make(size, depth_bins, stride=8):
        generator = torch.Generator().manual_seed(2)
        shape = (4, size[0] * stride, size[1] * stride)
        depth = 1 + 59 * torch.rand(shape, generator=generator)
        depth *= torch.rand(shape, generator=generator) < 0.7 / stride**2
        foreground = torch.rand(shape, generator=generator) < 0.5
        return downsample_labels(depth, foreground, depth_bins, stride)

    return make
