"""Rigs of cameras and rigid transforms: valid and invalid ones."""

import pytest
import torch

from fsdbev.structures import Rig, is_rigid, make_transform, rotation_z


def rig(**changes):
    values = {
        "channels": ("left", "right"),
        "image_sizes": ((640, 480), (800, 600)),
        "intrinsics": torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]).repeat(2, 1, 1),
        "cam2ego": torch.eye(4).repeat(2, 1, 1),
    }
    return Rig(**{**values, **changes})


def changed(matrix, place, value):
    matrix = matrix.clone()
    matrix[place] = value
    return matrix


def test_matrices_are_float64():
    assert rig().intrinsics.dtype == rig().cam2ego.dtype == torch.float64
    assert rig().num_cameras == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"channels": ("left", "left")}, "its own name"),
        ({"channels": ()}, "at least one"),
        ({"channels": ("a", "b", "c")}, "3 cameras need"),
        ({"image_sizes": ((640, 480), (0, 600))}, "'right'.*pixels"),
        ({"intrinsics": changed(rig().intrinsics, (1, 0, 0), -500.0)}, "'right'.*intrinsics"),
        ({"intrinsics": changed(rig().intrinsics, (0, 0, 2), float("nan"))}, "'left'.*intrinsics"),
        ({"intrinsics": changed(rig().intrinsics, (0, 2, 2), 2.0)}, "'left'.*intrinsics"),
        ({"cam2ego": changed(rig().cam2ego, (1, 0, 0), -1.0)}, "'right'.*cam2ego"),
        ({"cam2ego": changed(rig().cam2ego, (0, 0, 0), 1.1)}, "'left'.*cam2ego"),
        ({"cam2ego": changed(rig().cam2ego, (0, 0, 3), float("inf"))}, "'left'.*cam2ego"),
        ({"cam2ego": changed(rig().cam2ego, (0, 3, 0), 1.0)}, "'left'.*cam2ego"),
        ({"lenses": (None,)}, "2 cameras need 2 lenses or none, got 1"),
        ({"reference_camera": 2}, "reference_camera is 2"),
        ({"reference_camera": -1}, "reference_camera is -1"),
    ],
)
def test_invalid_rigs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        rig(**changes)


def test_a_rigid_transform_is_a_rotation_and_a_translation_up_to_rounding():
    pose = make_transform(rotation_z(torch.tensor(0.7)), torch.tensor([1e4, -3.0, 2.0]))
    assert is_rigid(pose) and is_rigid((pose * 1e4).round() / 1e4)
    assert not is_rigid(pose @ torch.diag(torch.tensor([1.0, -1, 1, 1])))  # mirrored
    assert not is_rigid(torch.zeros(4, 4))
    assert not is_rigid(torch.full((4, 4), float("nan")))
