"""3D boxes: corners, containment, transforms against the public release, fields of Instances."""

import math
import pathlib

import numpy as np
import pytest
import torch

from fsdbev.d2.structures import Instances
from fsdbev.structures import Boxes3D, make_transform, rotation_z, transform_points

PARITY = pathlib.Path(__file__).parents[1] / "parity"


def random_boxes(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.randn(count, 9, generator=generator, dtype=torch.float64) * 3
    boxes[:, 3:6] = boxes[:, 3:6].abs() + 0.5
    return Boxes3D(boxes)


def angle_difference(a, b):
    return torch.remainder(a - b + math.pi, 2 * math.pi) - math.pi


def forward_speed(boxes):
    return boxes.velocity[:, 0] * boxes.yaw.cos() + boxes.velocity[:, 1] * boxes.yaw.sin()


def test_parts():
    boxes = Boxes3D(torch.arange(9.0)[None])
    assert boxes.centers.tolist() == [[0, 1, 2]]
    assert boxes.dims.tolist() == [[3, 4, 5]]
    assert boxes.yaw.tolist() == [6]
    assert boxes.velocity.tolist() == [[7, 8]]
    assert boxes.bev.tolist() == [[0, 1, 3, 4, 6]]


def test_integers_become_floats_and_empty_inputs_zero_boxes():
    assert Boxes3D(torch.ones(2, 9, dtype=torch.int64)).tensor.dtype == torch.float32
    for empty in ([], torch.zeros(0), torch.zeros(0, 9)):
        assert Boxes3D(empty).tensor.shape == (0, 9)
    assert len(Boxes3D.cat([])) == 0


@pytest.mark.parametrize("shape", [(9,), (2, 7), (1, 2, 9)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(M, 9\)"):
        Boxes3D(torch.zeros(shape))


def test_corners_by_hand():
    """A box that faces along +y: its length is along y, its left side is at -x."""
    boxes = Boxes3D(torch.tensor([[10.0, 20.0, 1.0, 4.0, 2.0, 6.0, math.pi / 2, 0, 0]]))
    corners = boxes.corners()[0]
    front_left_top, rear_right_bottom = corners[4 + 2 + 1], corners[0]
    assert torch.allclose(front_left_top, torch.tensor([9.0, 22.0, 4.0]), atol=1e-5)
    assert torch.allclose(rear_right_bottom, torch.tensor([11.0, 18.0, -2.0]), atol=1e-5)


def test_contain_by_hand():
    boxes = Boxes3D(
        torch.tensor([[0, 0, 0, 4, 2, 2, math.pi / 4, 0, 0], [9, 9, 9, 1, 1, 1, 0, 0, 0]])
    )
    half = math.sqrt(0.5)
    points = torch.tensor(
        [
            [1.9 * half, 1.9 * half, 0.9],  # near the front
            [1.9 * half, -1.9 * half, 0.0],  # to the right of the first box
            [0.0, 0.0, 1.1],  # above it
            [9.5, 9.5, 8.5],  # a corner of the second box
        ]
    )
    assert boxes.contain(points).tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]


def test_contain_agrees_with_corners():
    boxes = random_boxes()
    inner = boxes.centers[:, None] + 0.99 * (boxes.corners() - boxes.centers[:, None])
    outer = boxes.centers[:, None] + 1.01 * (boxes.corners() - boxes.centers[:, None])
    box = torch.arange(len(boxes)).repeat_interleave(8)
    point = torch.arange(len(box))
    assert boxes.contain(inner.flatten(0, 1))[point, box].all()
    assert not boxes.contain(outer.flatten(0, 1))[point, box].any()


def test_contain_without_boxes_or_points():
    assert Boxes3D([]).contain(torch.zeros(3, 3)).shape == (3, 0)
    assert random_boxes(2).contain(torch.zeros(0, 3).double()).shape == (0, 2)


@pytest.mark.parametrize("case", range(4))
def test_transformed_as_the_release_augments(case):
    """``bda{i}`` of components.npz: rotation, scale, flips of x and y in the public release."""
    reference = np.load(PARITY / "components.npz")
    a2b = make_transform(torch.from_numpy(reference[f"bda{case}.mat"]))
    ours = Boxes3D(torch.from_numpy(reference[f"bda{case}.in"])).transformed(a2b).tensor
    theirs = torch.from_numpy(reference[f"bda{case}.out"])
    others = [0, 1, 2, 3, 4, 5, 7, 8]
    assert torch.allclose(ours[:, others], theirs[:, others], atol=1e-4, rtol=1e-5)
    assert angle_difference(ours[:, 6], theirs[:, 6]).abs().max() < 1e-4


@pytest.mark.parametrize("flip", [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
def test_transformed_boxes_have_the_transformed_corners(flip):
    boxes = random_boxes()
    linear = torch.diag(torch.tensor([*flip, 1.0])).double() @ rotation_z(
        torch.tensor(0.4).double()
    )
    a2b = make_transform(1.3 * linear, torch.tensor([5.0, -2.0, 1.0]).double())
    expected = transform_points(boxes.corners(), a2b)
    corners = boxes.transformed(a2b).corners()
    distance = torch.cdist(expected, corners)
    assert distance.min(dim=1).values.max() < 1e-9 and distance.min(dim=2).values.max() < 1e-9
    # The front of the box stays its front, the velocity keeps its angle to the heading.
    assert torch.allclose(corners[:, 4:].mean(dim=1), expected[:, 4:].mean(dim=1))
    assert torch.allclose(forward_speed(boxes.transformed(a2b)), 1.3 * forward_speed(boxes))


def test_yaw_in_range():
    yaw = torch.tensor([-math.pi, math.pi - 1e-3, math.pi + 1e-3, 7.0, -7.0])
    boxes = torch.zeros(5, 9)
    boxes[:, 6] = yaw
    wrapped = Boxes3D(boxes).with_yaw_in_range().yaw
    assert ((wrapped >= -math.pi) & (wrapped < math.pi)).all()
    assert angle_difference(wrapped, yaw).abs().max() < 1e-5
    assert boxes[:, 6].equal(yaw), "the input changed"


def test_indexing():
    boxes = random_boxes(4)
    assert boxes[1].tensor.equal(boxes.tensor[1:2])
    assert boxes[1:3].tensor.equal(boxes.tensor[1:3])
    assert boxes[boxes.yaw > 0].tensor.equal(boxes.tensor[boxes.yaw > 0])
    assert boxes[torch.tensor([2, 0])].tensor.equal(boxes.tensor[[2, 0]])
    assert [row.tolist() for row in boxes] == boxes.tensor.tolist()


def test_cat_clone_and_to():
    first, second = random_boxes(2, seed=1), random_boxes(3, seed=2)
    joined = Boxes3D.cat([first, second])
    assert joined.tensor.equal(torch.cat([first.tensor, second.tensor]))
    copy = first.clone()
    copy.tensor += 1
    assert not copy.tensor.equal(first.tensor)
    assert first.to(torch.float32).tensor.dtype == torch.float32
    assert first.device == torch.device("cpu")


def test_as_a_field_of_instances():
    boxes = random_boxes(3)
    instances = Instances((4, 5), gt_boxes_3d=boxes, gt_classes=torch.tensor([1, 2, 3]))
    assert len(instances) == 3
    chosen = instances[instances.gt_classes > 1]
    assert isinstance(chosen.gt_boxes_3d, Boxes3D)
    assert chosen.gt_boxes_3d.tensor.equal(boxes.tensor[1:])
    assert instances[0].gt_boxes_3d.tensor.equal(boxes.tensor[:1])
    joined = Instances.cat([instances, chosen])
    assert joined.gt_boxes_3d.tensor.equal(Boxes3D.cat([boxes, boxes[1:]]).tensor)
    assert joined.to("cpu").gt_boxes_3d.device.type == "cpu"
