"""Boxes for the tests of rotated IoU and NMS, and marks for all tests of operators."""

from contextlib import contextmanager

import pytest
import torch

from fsdbev.layers import EXTENSION_BUILT
from fsdbev.layers._extension import KERNEL_DEVICES

needs_extension = pytest.mark.skipif(not EXTENSION_BUILT, reason="compiled operators not built")
needs_cuda = pytest.mark.skipif(
    "cuda" not in KERNEL_DEVICES or not torch.cuda.is_available(),
    reason="needs a CUDA device and kernels for it",
)


@contextmanager
def threads(number):
    """Runs the block with this number of PyTorch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_boxes(*shape, seed=0, dtype=torch.float32):
    """Returns (*shape, 5) boxes, many of which overlap, and (*shape) scores."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([6.0, 6.0, 5.0, 3.0, 7.0], dtype=torch.float64)
    shift = torch.tensor([-3.0, -3.0, 0.1, 0.1, -3.5], dtype=torch.float64)
    boxes = torch.rand(*shape, 5, generator=generator, dtype=torch.float64) * scale + shift
    return boxes.to(dtype), torch.rand(*shape, generator=generator)
