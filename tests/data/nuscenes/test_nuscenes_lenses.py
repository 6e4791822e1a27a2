"""Lenses of nuScenes-format tables: camera_distortion and camera_lens of calibrated sensors."""

import numpy as np
import pytest
from data_root import DataRoot

from fsdbev.data.io.rectify import rectified_intrinsics
from fsdbev.data.nuscenes import index_builder
from fsdbev.structures import Lens

FISHEYE = [0.05, -0.01, 0.002, -0.0003]
RADIAL_TANGENTIAL = [-0.3, 0.1, 0.001, -0.002, 0.01]


@pytest.fixture
def root(synthetic_root, tmp_path):
    return DataRoot.copy_of(synthetic_root, tmp_path / "data")


def set_lens(root, channel, **fields):
    """Sets the fields of all calibrations of a camera."""
    sensor = next(s["token"] for s in root.table("sensor") if s["channel"] == channel)
    records = root.table("calibrated_sensor")
    for record in records:
        if record["sensor_token"] == sensor:
            record.update(fields)
    root.write_table("calibrated_sensor", records)


def test_lenses_of_two_cameras(root):
    before = root.prepare().index[0]
    assert before.lenses == ()
    set_lens(root, "CAM_FRONT", camera_distortion=FISHEYE, camera_lens="fisheye")
    set_lens(root, "CAM_BACK", camera_distortion=RADIAL_TANGENTIAL)
    set_lens(root, "CAM_BACK_LEFT", camera_distortion=[])
    set_lens(root, "CAM_BACK_RIGHT", camera_distortion=[0, 0, 0, 0, 0])
    frame = root.prepare().index[0]
    front, back = (frame.channels.index(name) for name in ("CAM_FRONT", "CAM_BACK"))
    assert [camera for camera, lens in enumerate(frame.lenses) if lens] == [front, back]
    assert frame.lenses[front] == Lens("fisheye", before.intrinsics[front], FISHEYE)
    lens = frame.lenses[back]
    assert lens.model == "radial_tangential"
    assert lens.coefficients[:5] == tuple(RADIAL_TANGENTIAL) and not any(lens.coefficients[5:])
    np.testing.assert_array_equal(lens.intrinsics, before.intrinsics[back])
    np.testing.assert_array_equal(frame.intrinsics, before.intrinsics)


def test_balance(root, monkeypatch):
    set_lens(root, "CAM_FRONT", camera_distortion=RADIAL_TANGENTIAL)
    kept = root.prepare()
    changed = root.prepare(balance=1)
    frame, (width, height) = changed.index[0], kept.index[0].image_sizes[1]
    lens = frame.lenses[1]
    expected = rectified_intrinsics(lens, (width, height), 1)
    np.testing.assert_array_equal(frame.intrinsics[1], expected)
    assert expected[0, 0] != kept.index[0].intrinsics[1, 0, 0]
    np.testing.assert_array_equal(frame.intrinsics[2], kept.index[0].intrinsics[2])
    # Pixels of labels depend on it too.
    assert changed.statistics.points.tolist() != kept.statistics.points.tolist()
    assert root.check(splits=["synth_train"], balance=1) == []
    kinds = {kind for kind, _ in root.check(splits=["synth_train"])}
    assert kinds == {"index"}
    monkeypatch.setattr(index_builder, "load_nuscenes", lambda *_: pytest.fail("tables loaded"))
    root.prepare(balance=1.0)


def test_balance_without_effect(root):
    with pytest.raises(ValueError, match=r"--balance 0.5 has no effect: no record of .*calibrated"):
        root.prepare(balance=0.5)
    set_lens(root, "CAM_FRONT", camera_distortion=RADIAL_TANGENTIAL)
    with pytest.raises(ValueError, match="--balance must be within 0..1, got 2"):
        root.prepare(balance=2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"camera_distortion": [0.1] * 6}, "nuImages has six coefficients, for images that are"),
        ({"camera_distortion": [0.1] * 3}, "has 4 or 5 or 8 or 12 or 14 coefficients, got 3"),
        ({"camera_lens": "fisheye"}, "a fisheye lens has 4 coefficients, got 0"),
        ({"camera_lens": "equidistant"}, "a lens model is radial_tangential or fisheye, got 'equi"),
        ({"camera_distortion": ["a"] * 4}, "could not convert string to float"),
        ({"camera_distortion": [float("nan")] * 4}, "must be finite"),
        ({"camera_distortion": 0.1}, "malformed record"),
    ],
)
def test_malformed_lens(root, fields, message):
    set_lens(root, "CAM_FRONT", **fields)
    with pytest.raises(ValueError, match=message) as raised:
        root.prepare()
    assert "unpack the version's metadata again" in str(raised.value)
