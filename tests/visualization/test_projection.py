"""Projection of boxes onto images, cut at the near plane and at the border."""

import math

import numpy as np
import pytest
import torch

from fsdbev.structures import Boxes3D
from fsdbev.visualization.projection import (
    BOX_EDGES,
    FRONT_FACE,
    box_edges_on_image,
    cut_segments_at_border,
    cut_segments_at_depth,
    front_face_on_image,
    project,
    unproject,
)

INTRINSICS = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
#: Key ego (x forward, y left, z up) points -> camera (x right, y down, z forward).
EGO2CAM = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])


def camera_corners(*boxes):
    return Boxes3D(torch.tensor(boxes, dtype=torch.float64)).corners().numpy() @ EGO2CAM.T


def test_edges_are_the_boxes_edges():
    corners = camera_corners([0, 0, 0, 4, 2, 1, 0.3, 0, 0])[0]
    lengths = np.linalg.norm(corners[BOX_EDGES[:, 0]] - corners[BOX_EDGES[:, 1]], axis=1)
    assert sorted(lengths.round(6)) == [1] * 4 + [2] * 4 + [4] * 4


def test_front_face_is_where_the_box_heads():
    box = Boxes3D(torch.tensor([[5.0, 1.0, 0.0, 4.0, 2.0, 1.0, math.pi / 2, 0.0, 0.0]]))
    face = box.corners()[0, FRONT_FACE]
    torch.testing.assert_close(face.mean(dim=0), torch.tensor([5.0, 3.0, 0.0]))
    sides = (face - face.roll(-1, 0)).norm(dim=1)
    torch.testing.assert_close(sides, torch.tensor([1.0, 2.0, 1.0, 2.0]))


def test_unproject_undoes_project():
    points = np.array([[1.0, -2, 4], [0, 0, 1], [-3, 5, 30]])
    # Calibration with a rotated and scaled image, and labels of 0.8 times the depth.
    image2network = 0.8 * np.array([[0.5, 0.1, 7], [-0.1, 0.5, -3], [0, 0, 1]])
    calibration = image2network @ INTRINSICS
    uv = project(points, calibration)
    np.testing.assert_allclose(unproject(uv, 0.8 * points[:, 2], calibration), points, atol=1e-9)
    assert unproject(np.zeros((0, 2)), np.zeros(0), calibration).shape == (0, 3)


def test_cut_at_depth():
    segments = np.array(
        [
            [[0, 0, 1], [0, 0, 3]],
            [[0, 0, -1], [4, 0, 3]],
            [[4, 0, 3], [0, 0, -1]],
            [[0, 0, -3], [0, 0, -1]],
            [[0, 1, 2], [1, 1, 2]],
        ],
        dtype=float,
    )
    cut, left = cut_segments_at_depth(segments, 1.0)
    assert left.tolist() == [True, True, True, False, True]
    np.testing.assert_allclose(cut[0], segments[0])
    np.testing.assert_allclose(cut[1], [[2, 0, 1], [4, 0, 3]])
    np.testing.assert_allclose(cut[2], [[4, 0, 3], [2, 0, 1]])
    np.testing.assert_allclose(cut[4], segments[4])


def test_cut_at_border():
    segments = np.array(
        [
            [[10, 10], [20, 30]],
            [[-50, 40], [150, 40]],
            [[50, -1e6], [50, 1e6]],
            [[-10, 10], [10, -10]],
            [[-20, 30], [30, -20]],
            [[-5, 0], [-5, 80]],
            [[10, 90], [90, 90]],
        ],
        dtype=float,
    )
    cut, left = cut_segments_at_border(segments, 100, 80)
    assert left.tolist() == [True, True, True, False, True, False, False]
    np.testing.assert_allclose(cut[0], segments[0])
    np.testing.assert_allclose(cut[1], [[0, 40], [100, 40]])
    np.testing.assert_allclose(cut[2], [[50, 0], [50, 80]])
    np.testing.assert_allclose(cut[4], [[0, 10], [10, 0]])


def test_projection_of_a_box_ahead():
    """A 2 m cube 10 m ahead: its near face spans 2/9 of the focal length."""
    corners = camera_corners([10, 0, 0, 2, 2, 2, 0, 0, 0])
    segments, owner, front = box_edges_on_image(corners, INTRINSICS, 100, 80, 0.1)
    assert len(segments) == 12 and set(owner) == {0} and front.sum() == 4
    np.testing.assert_allclose(segments.min(axis=(0, 1)), [50 - 100 / 9, 40 - 100 / 9])
    np.testing.assert_allclose(segments.max(axis=(0, 1)), [50 + 100 / 9, 40 + 100 / 9])
    # It heads away from the camera, so its front face is the far one.
    np.testing.assert_allclose(segments[front].max(axis=(0, 1)), [50 + 100 / 11, 40 + 100 / 11])
    face = front_face_on_image(corners[0], INTRINSICS, 100, 80, 0.1)
    np.testing.assert_allclose(face.max(axis=0), [50 + 100 / 11, 40 + 100 / 11])


def test_box_around_the_camera_stays_on_the_image():
    """Of boxes that extend behind the camera, the part in front and in the image is drawn."""
    corners = camera_corners([0, 2, 0, 8, 2, 2, 0, 0, 0], [-10, 0, 0, 2, 2, 2, 0, 0, 0])
    segments, owner, _ = box_edges_on_image(corners, INTRINSICS, 100, 80, 0.1)
    assert set(owner) == {0}
    assert np.isfinite(segments).all()
    assert (segments >= -1e-9).all() and (segments <= np.array([100, 80]) + 1e-9).all()
    # The box is on the left, so it is drawn in the left half only.
    assert segments[..., 0].max() <= 50
    assert front_face_on_image(corners[1], INTRINSICS, 100, 80, 0.1) is None


def test_front_face_cut_at_the_border():
    corners = camera_corners([3, 0, 0, 2, 40, 40, math.pi, 0, 0])[0]
    face = front_face_on_image(corners, INTRINSICS, 100, 80, 0.1)
    assert face.min(axis=0) == pytest.approx([0, 0])
    assert face.max(axis=0) == pytest.approx([100, 80])


def test_front_face_across_the_near_plane():
    """A wall from next to the camera to ahead of it is drawn from the near plane on."""
    wall = camera_corners([2.0, -1.0, 0, 6, 6, 1, math.pi / 2, 0, 0])[0]
    assert (wall[FRONT_FACE][:, 2] < 0).sum() == 2
    face = front_face_on_image(wall, INTRINSICS, 100, 80, 0.1)
    assert (face >= -1e-9).all() and (face <= np.array([100, 80]) + 1e-9).all()
    far_end = project(wall[FRONT_FACE][wall[FRONT_FACE][:, 2] > 0], INTRINSICS)[0, 0]
    assert face[:, 0].max() == pytest.approx(far_end) and face[:, 0].min() == pytest.approx(0)


def test_no_boxes():
    corners = camera_corners(*np.zeros((0, 9)))
    segments, owner, front = box_edges_on_image(corners, INTRINSICS, 100, 80, 0.1)
    assert segments.shape == (0, 2, 2) and len(owner) == len(front) == 0
