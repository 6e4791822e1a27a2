"""Labels and losses outside the head are what the public release computed (README.md)."""

import numpy as np
import pytest
import torch
from small_model import HERE

from fsdbev.modeling.depth_labels import depth_loss, downsample_labels
from fsdbev.modeling.distillation import distillation_loss
from fsdbev.modeling.msfe import heatmap_loss
from fsdbev.structures import DepthBins


@pytest.fixture(scope="module")
def components():
    return {k: torch.as_tensor(v) for k, v in np.load(HERE / "components.npz").items()}


def test_labels_and_depth_loss(components):
    labels = downsample_labels(
        components["label.depth_in"][0], components["label.fg_in"][0] > 0, DepthBins(step=2.0)
    )
    distribution = labels.distribution.permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(distribution, components["label.depth_dist"], rtol=0, atol=0)
    assert (labels.foreground.flatten() == components["label.fg_onehot"][:, 1].bool()).all()
    loss = 3.0 * depth_loss(components["label.depth_pred"], labels)
    torch.testing.assert_close(loss, components["label.depth_loss"], rtol=1e-5, atol=0)


def test_distillation_loss(components):
    loss = distillation_loss(components["bevloss.s"], components["bevloss.t"])
    torch.testing.assert_close(loss, components["bevloss.loss"], rtol=1e-5, atol=0)


def test_heatmap_loss(components):
    loss = heatmap_loss(components["hmloss.logits"], components["hmloss.target"])
    torch.testing.assert_close(loss, components["hmloss.loss"], rtol=1e-5, atol=0)
