"""BEV-Paste: transforms, pasted maps and pasted boxes."""

import math
from dataclasses import replace

import pytest
import torch

from fsdbev.d2.structures import Instances
from fsdbev.modeling import BEVPaste, ViewTransform
from fsdbev.modeling.view_transform import ViewToBEV
from fsdbev.structures import BEVGrid, Boxes3D, Cameras, DepthBins

IMAGE_SIZE = (32, 64)


@pytest.fixture
def paste():
    return BEVPaste(max_rotation=22.5, scale=(0.95, 1.05), flip_prob=0.5)


def instances(count, offset=0.0):
    result = Instances((32, 64))
    boxes = torch.ones(count, 9)
    boxes[:, 0] = torch.arange(count) + offset
    boxes[:, 6] = 0
    result.gt_boxes_3d = Boxes3D(boxes)
    result.gt_classes = torch.arange(count)
    return result


def test_transforms_stay_within_their_ranges(paste):
    transforms = paste.sample_transforms(500, torch.Generator().manual_seed(0))
    linear = transforms[:, :2, :2]
    scale = linear.det().abs().sqrt()
    assert 0.95 <= scale.min() < 0.96 and 1.04 < scale.max() <= 1.05
    torch.testing.assert_close(transforms[:, 2, 2], scale)
    assert 0.3 < (linear.det() < 0).float().mean() < 0.7  # one flip, not two
    angle = torch.atan2(linear[:, 1, 0] * linear[:, 1, 1].sign(), linear[:, 1, 1].abs())
    assert angle.abs().max() <= math.radians(22.5) and angle.abs().max() > math.radians(21)
    assert not transforms[:, :3, 3].any()


def test_same_generator_same_transforms(paste):
    first, second = (paste.sample_transforms(3, torch.Generator().manual_seed(7)) for _ in "12")
    assert torch.equal(first, second)


def test_empty_ranges_give_the_identity():
    identity = BEVPaste(max_rotation=0, scale=(1, 1), flip_prob=0)
    torch.testing.assert_close(identity.sample_transforms(2), torch.eye(4).expand(2, 4, 4))


def test_map_is_the_sum_of_both_samples_maps(paste, make_samples):
    """Pasting equals pooling each sample by itself with the transform after its bev_aug."""
    batch = make_samples(batch_size=3, num_cameras=2)
    cameras = Cameras.from_samples(batch)
    transforms = paste.sample_transforms(3, torch.Generator().manual_seed(0))
    bins = DepthBins(step=4.0)
    transform = ViewTransform(grid=BEVGrid(cell=6.4), depth_bins=bins)
    torch.manual_seed(0)
    weights = torch.rand(2, 6, bins.count, 2, 4)
    foreground, context = torch.rand(2, 6, 2, 4), torch.randn(6, 3, 2, 4)

    view_to_bev = paste.paste_views(ViewToBEV.of_frame(cameras, 1, IMAGE_SIZE), transforms)
    pasted = transform(weights, foreground, context, view_to_bev)

    def map_of_donor(donor, receiver):
        moved = replace(cameras, bev_aug=transforms[receiver].double() @ cameras.bev_aug)
        maps = transform(weights, foreground, context, ViewToBEV.of_frame(moved, 1, IMAGE_SIZE))
        return maps[:, donor]

    for i in range(3):
        expected = map_of_donor(i, i) + map_of_donor((i + 1) % 3, i)
        assert ((pasted[:, i] - expected).abs() < 1e-4).all()
        assert expected.abs().sum() > 0


def test_a_single_sample_is_only_transformed(paste, make_samples):
    view_to_bev = ViewToBEV.of_frame(
        Cameras.from_samples(make_samples(batch_size=1)), 0, IMAGE_SIZE
    )
    transforms = paste.sample_transforms(1)
    pasted = paste.paste_views(view_to_bev, transforms)
    assert torch.equal(pasted.view, view_to_bev.view) and torch.equal(
        pasted.sample, view_to_bev.sample
    )
    torch.testing.assert_close(pasted.image2bev, transforms.double() @ view_to_bev.image2bev)
    assert len(paste.paste_instances([instances(2)], transforms)[0]) == 2


def test_boxes_of_both_samples_follow(paste):
    quarter = torch.tensor([[0.0, -2, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    transforms = torch.stack([torch.eye(4), quarter])
    batch = [instances(2), instances(1, offset=10.0)]
    first, second = paste.paste_instances(batch, transforms)
    assert first.gt_boxes_3d.centers[:, 0].tolist() == [0, 1, 10]
    assert first.gt_classes.tolist() == [0, 1, 0]
    assert second.gt_classes.tolist() == [0, 0, 1]
    box = second.gt_boxes_3d.tensor[0]
    expected = torch.tensor([-2, 20, 2, 2, 2, 2, math.pi / 2, -2, 2])
    torch.testing.assert_close(box, expected)
    assert batch[0].gt_boxes_3d.tensor[1, 0] == 1  # the inputs are unchanged


def test_samples_without_boxes(paste):
    first, second = paste.paste_instances(
        [instances(0), instances(0)], torch.eye(4).expand(2, 4, 4)
    )
    assert len(first) == len(second) == 0
