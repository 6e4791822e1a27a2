"""A small model, and fake scenes whose samples share frames like those of the mapper."""

import copy
import functools
from pathlib import Path

import torch

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.data.fake import camera_ring

CONFIGS = Path(__file__).parents[2] / "configs"
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


def randomize_statistics(model):
    """Sets random BatchNorm statistics, so that an error in their use changes the outputs."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


def small_model(*overrides, seed=0, file="fsdbev_r50_cbgs.py"):
    """Returns a model in eval mode, with random weights and BatchNorm statistics."""
    return copy.deepcopy(_small_model(overrides, seed, file))


@functools.cache
def _small_model(overrides, seed, file):
    config = LazyConfig.apply_overrides(
        LazyConfig.load(str(CONFIGS / file)), [*SMALL, *map(str, overrides)]
    )
    torch.manual_seed(seed)
    return randomize_statistics(instantiate(config.model).eval())


class Scene:
    """Frames 0, 1, 2, ... of a drive; the images of a frame are the same in every sample."""

    def __init__(self, name, *, num_frames=2, spacing=1):
        self.name = name
        self.num_frames = num_frames
        self.spacing = spacing

    def sample(self, number, *, earlier=None, given=None):
        """Returns the sample with key frame ``number``.

        Args:
            number: number of the key frame.
            earlier: numbers of its other frames; by default the previous ones, ``spacing`` apart;
                the key frame replaces those before the scene.
            given: number of frames whose images the sample contains; by default all.
        """
        if earlier is None:
            earlier = [number - self.spacing * t for t in range(1, self.num_frames)]
        numbers = [number, *(n if n >= 0 else number for n in earlier)]
        tokens = [f"{self.name}-{n}" for n in numbers]
        matrices = [self._matrices(n) for n in numbers]
        stacked = {key: torch.stack([m[key] for m in matrices]) for key in matrices[0]}
        images = torch.stack([self.images(n) for n in numbers[:given]])
        return {
            "images": images,
            **stacked,
            "image_aug": torch.diag(torch.tensor([0.04, 0.04, 1, 1])).repeat(NUM_CAMERAS, 1, 1),
            "bev_aug": torch.eye(4),
            "sample_token": tokens[0],
            "scene_token": self.name,
            "frame_tokens": tokens,
        }

    def images(self, number):
        """Returns the (N, 3, H, W) images of a frame."""
        generator = torch.Generator().manual_seed(1000 * (sum(map(ord, self.name)) + 7) + number)
        shape = (NUM_CAMERAS, 3, *IMAGE_SIZE)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def _matrices(self, number):
        # Cameras are exposed in turn, so the poses within a frame differ.
        ego2global = torch.eye(4, dtype=torch.float64).repeat(NUM_CAMERAS, 1, 1)
        ego2global[:, 0, 3] = 500 + 2.0 * number + (0.1 + 0.03 * number) * torch.arange(NUM_CAMERAS)
        intrinsics = torch.tensor([[1000.0, 0, 800], [0, 1000, 450], [0, 0, 1]]).double()
        return {
            "cam2ego": camera_ring(NUM_CAMERAS, center=(1, 0, 1.5), radius=0, first_yaw=0),
            "ego2global": ego2global,
            "intrinsics": intrinsics.repeat(NUM_CAMERAS, 1, 1),
        }


class Passes:
    """Counter of the frames that the image branch has processed."""

    def __init__(self, model):
        self.count = 0
        model.backbone.register_forward_hook(self._add)

    def _add(self, module, args, output):
        self.count += len(args[0]) // NUM_CAMERAS

    def take(self):
        """Returns the count since the last call."""
        count, self.count = self.count, 0
        return count
