"""Foreground targets: depth and foreground maps, 2D boxes, heatmaps."""

import numpy as np
import pytest
import torch

from fsdbev.data.index.records import Annotations
from fsdbev.data.labels.point_labels import PixelPoints
from fsdbev.data.transforms.foreground_targets import depth_maps, heatmaps, image_boxes
from fsdbev.data.transforms.image_aug import ImageAugmentation

SOURCE = (320, 180)
IMAGE = (64, 176)


def points(*rows):
    u, v, depth, class_ids = np.array(rows, np.float32).T
    return PixelPoints(u, v, depth, class_ids.astype(np.int8))


def maps_of_one(seen, matrix, image_size):
    """Depth and foreground maps of one view."""
    return [maps[0].numpy() for maps in depth_maps([seen], matrix[None], image_size)]


def test_the_last_point_of_a_pixel_is_used_in_both_maps():
    shared = points((5.2, 3.9, 10, 4), (5.9, 3.1, 20, -1), (7, 3, 30, -1), (7, 3, 40, 0))
    depth, foreground = maps_of_one(shared, np.eye(4), (8, 12))
    assert depth[3, 5] == 20 and not foreground[3, 5]
    assert depth[3, 7] == 40 and foreground[3, 7]
    assert (depth > 0).sum() == 2 and foreground.sum() == 1


def test_pixels_are_truncated_toward_zero():
    border = points((-0.9, 0.5, 3, -1), (-1.0, 4.5, 4, -1), (11.99, 7.99, 5, 0), (12, 2, 6, -1))
    depth, foreground = maps_of_one(border, np.eye(4), (8, 12))
    assert depth[0, 0] == 3 and depth[7, 11] == 5 and (depth > 0).sum() == 2
    assert foreground.sum() == 1 and depth.dtype == np.float32 and foreground.dtype == bool


def test_every_view_has_its_own_points_and_matrix():
    shift, scale = np.eye(4), np.eye(4)
    shift[0, 3], scale[2, 2] = 2, 0.5
    seen = [points((5, 3, 10, 4)), PixelPoints.empty(), points((1, 1, 8, -1), (2, 2, 6, 0))]
    depth, foreground = depth_maps(seen, np.stack([shift, np.eye(4), scale]), (8, 12))
    assert depth.shape == foreground.shape == (3, 8, 12)
    assert depth.nonzero().tolist() == [[0, 3, 7], [2, 1, 1], [2, 2, 2]]
    assert depth[depth > 0].tolist() == [10, 4, 3]
    assert foreground.nonzero().tolist() == [[0, 3, 7], [2, 2, 2]]
    for wrong in (np.eye(4), np.eye(4)[None]):
        with pytest.raises(ValueError, match=r"must be \(3, 4, 4\), one matrix per view, got"):
            depth_maps(seen, wrong, (8, 12))
    empty = depth_maps([], np.zeros((0, 4, 4)), (8, 12))
    assert [tuple(maps.shape) for maps in empty] == [(0, 8, 12)] * 2


INTRINSICS = np.array([[200, 0, 160], [0, 200, 90], [0, 0, 1.0]])


def camera_corners(*boxes):
    """Corners in the frame of a camera that faces +x of the boxes' frame."""
    corners = Annotations.from_boxes(np.array(boxes), [0] * len(boxes)).corners()
    return corners[..., [1, 2, 0]] * [-1.0, -1, 1]


@pytest.mark.parametrize(
    "box",
    [
        [20, 17, 0, 4, 2, 1.5, 0.4, 0, 0],  # over the left edge
        [3, 2, 0, 12, 2, 1.5, 0.9, 0, 0],  # reaches behind the camera
        [6, 0, 3, 4, 2, 1.5, 0, 0, 0],  # above, over the upper edge
        [8, 6.5, -4, 9, 3, 3, 0.7, 0, 0],  # only a corner of its hull is in the image
    ],
)
def test_cut_boxes_are_the_bounds_of_the_visible_part(box):
    """Compared with the pixels whose rays hit the box."""
    corners = camera_corners(box)
    boxes, owners = image_boxes(corners, INTRINSICS, SOURCE)
    u, v = np.meshgrid(np.arange(SOURCE[0]) + 0.5, np.arange(SOURCE[1]) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(INTRINSICS).T
    edges = (corners[0, [4, 2, 1]] - corners[0, 0]).astype(np.float64)
    to_box = np.linalg.inv(edges)  # camera coordinates -> 0 .. 1 along the box's edges
    start, slope = -corners[0, 0] @ to_box, rays @ to_box
    slabs = np.sort(np.stack([(0 - start) / slope, (1 - start) / slope]), axis=0)
    enter, leave = np.maximum(slabs[0].max(axis=-1), 0.01), slabs[1].min(axis=-1)
    rows, columns = np.nonzero(enter < leave)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert owners.tolist() == [0]
    np.testing.assert_allclose(boxes[0], expected, atol=1)


def test_boxes_outside_of_the_image_are_dropped():
    corners = camera_corners(
        [-20, 0, 0, 4, 2, 1.5, 0, 0, 0],  # behind
        [-0.5, 0, 0, 9, 2, 1.5, 0, 0, 0],  # centre behind the camera, front ahead of it
        [20, 40, 0, 4, 2, 1.5, 0, 0, 0],  # outside of the image
        [20, 0, 0, 4, 2, 1.5, 0, 0, 0],
    )
    boxes, owners = image_boxes(corners, INTRINSICS, SOURCE)
    assert owners.tolist() == [3] and boxes.shape == (1, 4)
    boxes, owners = image_boxes(corners[:3], INTRINSICS, SOURCE)
    assert boxes.shape == (0, 4) and len(owners) == 0
    assert len(image_boxes(corners[:0], INTRINSICS, SOURCE)[1]) == 0


def test_heatmaps_of_every_camera():
    """Equal to those computed per camera; one camera has no boxes."""
    rng = np.random.default_rng(0)
    sizes = np.array([SOURCE, (200, 100), (260, 150)], np.int32)
    boxes, class_ids, matrices = [], [], []
    for size, count in zip(sizes, (14, 0, 9), strict=True):
        lower = rng.uniform(0, size / 2, (count, 2))
        upper = lower + rng.uniform(20, 60, (count, 2))
        boxes.append(np.concatenate([lower, upper], axis=1).astype(np.float32))
        class_ids.append(rng.integers(0, 10, count).astype(np.int8))
        matrices.append(ImageAugmentation(image_size=IMAGE).fixed(size.tolist()).matrix())
    settings = {"num_classes": 10, "image_size": IMAGE}
    found = heatmaps(boxes, class_ids, np.stack(matrices), sizes, **settings)
    assert found.shape == (3, 10, IMAGE[0] // 4, IMAGE[1] // 4) and found.dtype == torch.float32
    assert found[0].max() > 0.5 and found[2].max() > 0.5 and not found[1].any()
    for i in range(3):
        single = heatmaps(
            [boxes[i]], [class_ids[i]], matrices[i][None], sizes[i : i + 1], **settings
        )
        assert torch.equal(found[i], single[0])


def test_a_heatmap_cell_is_four_pixels_wide():
    box = np.array([[40, 20, 40, 20]], np.float32)  # only the pixel (40, 20)
    image_aug = np.eye(4)[None]
    image_aug[0, :2, 3] = 1  # to (41, 21), a middle pixel of cell (10, 5)
    found = heatmaps(
        [box], [np.array([7])], image_aug, np.array([SOURCE]), num_classes=10, image_size=IMAGE
    )
    assert found.nonzero().tolist() == [[0, 7, 5, 10]] and found.sum() == 0.25
