"""Rig files: geometry of the cameras, JSON and YAML, errors."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
import yaml

from fsdbev.data.io.rectify import rectified_intrinsics
from fsdbev.data.io.rig_file import read_rig, rig_content, rig_of_frame, write_rig
from fsdbev.structures import Lens, transform_points

FRONT = {
    "size": [800, 600],
    "intrinsics": {"fx": 560, "fy": 561, "cx": 400.5, "cy": 300},
    "cam2ego": {"translation": [1.5, 0.2, 1.6]},
}
RIG = {"reference_camera": "front", "cameras": {"back": copy.deepcopy(FRONT), "front": FRONT}}
BARREL = {"model": "radial_tangential", "coefficients": [-0.3, 0.1, 0.001, 0, -0.01]}


def write(folder, content, name="rig.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def with_front(**changes):
    rig = copy.deepcopy(RIG)
    rig["cameras"]["front"].update(changes)
    return rig


def test_a_camera_without_angles_looks_straight_ahead(tmp_path):
    rig = read_rig(write(tmp_path, RIG))
    assert rig.channels == ("back", "front") and rig.reference_camera == 1
    assert rig.image_sizes == ((800, 600), (800, 600))
    assert rig.intrinsics[1].tolist() == [[560, 0, 400.5], [0, 561, 300], [0, 0, 1]]
    # 10 m ahead of the camera, 2 m to its right, 1 m below it
    point = torch.tensor([[2.0, 1.0, 10.0]], dtype=torch.float64)
    expected = torch.tensor([[1.5 + 10, 0.2 - 2, 1.6 - 1]], dtype=torch.float64)
    assert torch.allclose(transform_points(point, rig.cam2ego[1]), expected)


@pytest.mark.parametrize(
    "angles, ahead, right",
    [
        ({"yaw": 90}, [0, 1, 0], [1, 0, 0]),  # to the left; its right is ahead
        ({"pitch": 90}, [0, 0, -1], [0, -1, 0]),  # to the ground
        ({"roll": 90}, [1, 0, 0], [0, 0, -1]),  # its right side points down
        ({"yaw": 180, "pitch": 30}, [-np.cos(np.pi / 6), 0, -0.5], [0, 1, 0]),
    ],
)
def test_angles_turn_left_down_and_clockwise(tmp_path, angles, ahead, right):
    mount = {"translation": [0, 0, 0], **angles}
    turned = read_rig(write(tmp_path, with_front(cam2ego=mount))).cam2ego[1, :3, :3].numpy()
    assert np.allclose(turned[:, 2], ahead, atol=1e-9)
    assert np.allclose(turned[:, 0], right, atol=1e-9)


def test_a_quaternion_is_that_of_nuscenes(tmp_path):
    # CAM_FRONT of a nuScenes log
    rotation = [0.4998015, -0.5030316, 0.4997798, -0.4973713]
    mount = {"translation": [1.7, 0.016, 1.51], "rotation": rotation}
    turned = read_rig(write(tmp_path, with_front(cam2ego=mount))).cam2ego[1]
    assert np.allclose(turned[:3, 2], [1, 0, 0], atol=0.01)
    assert turned[:3, 3].tolist() == [1.7, 0.016, 1.51]


def assert_same(rig, expected):
    assert rig.channels == expected.channels and rig.image_sizes == expected.image_sizes
    assert rig.reference_camera == expected.reference_camera
    assert torch.equal(rig.cam2ego, expected.cam2ego)
    assert torch.equal(rig.intrinsics, expected.intrinsics)
    assert rig.lenses == expected.lenses


@pytest.mark.parametrize("ending", ["yaml", "yml"])
def test_yaml_equals_json(tmp_path, ending):
    as_yaml = read_rig(write(tmp_path, yaml.safe_dump(RIG, sort_keys=False), f"rig.{ending}"))
    assert_same(as_yaml, read_rig(write(tmp_path, RIG)))


def test_a_rig_that_is_written_is_read_again(tmp_path):
    rig = read_rig(write(tmp_path, with_front(cam2ego={"translation": [1, 2, 3], "yaw": 33.3})))
    write_rig(rig, tmp_path / "folder" / "again.yaml")
    assert_same(read_rig(tmp_path / "folder" / "again.yaml"), rig)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["again.yaml"]
    assert json.loads(json.dumps(rig_content(rig))) == rig_content(rig)
    with pytest.raises(ValueError, match="again.txt"):
        write_rig(rig, tmp_path / "again.txt")


def test_intrinsics_of_a_camera_with_a_lens_are_those_of_the_rectified_images(tmp_path):
    plain = read_rig(write(tmp_path, RIG))
    raw = plain.intrinsics[1].numpy()
    lens = Lens("radial_tangential", raw, BARREL["coefficients"])
    assert plain.lenses == (None, None) and plain.lens(1) is None
    for balance in ({}, {"balance": None}, {"balance": 0}, {"balance": 0.5}):
        rig = read_rig(write(tmp_path, with_front(distortion={**BARREL, **balance})))
        assert rig.lenses == (None, lens) and rig.lens(1) == lens
        expected = rectified_intrinsics(lens, (800, 600), balance.get("balance"))
        assert np.array_equal(rig.intrinsics[1], expected)
        assert np.array_equal(rig.intrinsics[0], raw)
        write_rig(rig, tmp_path / "again.yaml")
        assert_same(read_rig(tmp_path / "again.yaml"), rig)


def test_rectified_intrinsics_can_be_stated(tmp_path):
    stated = {"fx": 300, "fy": 310, "cx": 390, "cy": 280}
    rig = read_rig(
        write(tmp_path, with_front(distortion={**BARREL, "rectified_intrinsics": stated}))
    )
    assert rig.intrinsics[1].tolist() == [[300, 0, 390], [0, 310, 280], [0, 0, 1]]
    assert rig.lens(1).intrinsics[0, 0] == 560


def test_the_rig_of_a_frame_is_its_calibration(synthetic_root):
    from fsdbev.data.index.frame_index import FrameIndex

    frame = FrameIndex(synthetic_root / "fsdbev" / "v1.0-synth" / "synth_val.arrow")[0]
    rig = rig_of_frame(frame)
    assert rig.lenses == ()
    assert rig.channels == frame.channels
    assert np.array_equal(rig.cam2ego, frame.cam2ego)
    assert rig.image_sizes == ((160, 90),) * 6
    lens = Lens("fisheye", frame.intrinsics[1], (0.1, 0, 0, 0))
    lenses = (None, lens, None, None, None, None)
    assert rig_of_frame(dataclasses.replace(frame, lenses=lenses)).lens(1) == lens


@pytest.mark.parametrize(
    "content, message",
    [
        ("[1, 2]", "mapping of names to values"),
        ({}, "lacks cameras"),
        ({"cameras": [FRONT]}, "cameras must be a mapping"),
        ({"cameras": {"front": None}}, "'front' must be a mapping"),
        ({**RIG, "camera": 1}, "has unknown keys camera; known keys are"),
        ({**RIG, "reference_camera": "top"}, "'top', cameras are back, front"),
        (with_front(size=[800]), "size must be 2 finite numbers"),
        (with_front(size=[800.5, 600]), "whole numbers"),
        (with_front(size=[-800, 600]), "pixels"),
        (with_front(intrinsics={"fx": 1, "fy": 1, "cx": 1}), "lacks cy"),
        (with_front(intrinsics={**FRONT["intrinsics"], "fx": "wide"}), "fx must be one finite"),
        (with_front(cam2ego={"yaw": 3}), "lacks translation"),
        (with_front(cam2ego={"translation": [1, 2]}), "translation must be 3"),
        (with_front(cam2ego={"translation": [0] * 3, "yaw": None}), "yaw must be one"),
        (with_front(cam2ego={"translation": [0] * 3, "rotation": [1, 0, 0, 0], "yaw": 1}), "both"),
        (with_front(distortion=[0.1]), "distortion must be a mapping"),
        (with_front(distortion={"model": "fisheye"}), "distortion lacks coefficients"),
        (with_front(distortion={**BARREL, "k": 1}), "distortion has unknown keys k; known keys"),
        (with_front(distortion={**BARREL, "model": "fisheye"}), "has 4 coefficients, got 5"),
        (with_front(distortion={**BARREL, "model": ["fisheye"]}), "lens model is"),
        (with_front(distortion={**BARREL, "coefficients": "none"}), "coefficients must be a list"),
        (with_front(distortion={**BARREL, "coefficients": [None] * 4}), "be 4 finite numbers"),
        (with_front(distortion={**BARREL, "balance": 2}), "distortion: the balance of a lens must"),
        (with_front(distortion={**BARREL, "balance": "half"}), "balance must be one finite"),
        (
            with_front(distortion={**BARREL, "balance": 1, "rectified_intrinsics": {}}),
            "remove one of them",
        ),
    ],
)
def test_errors_name_the_file_and_the_entry(tmp_path, content, message):
    """tests/bad_inputs/bad_rigs.py has further cases."""
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        read_rig(path)
    assert str(error.value).startswith(str(path))
