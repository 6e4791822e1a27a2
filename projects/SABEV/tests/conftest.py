"""Labels to learn from."""

import pytest
import torch

from fsdbev.modeling.depth_labels import downsample_labels


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
