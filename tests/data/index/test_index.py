"""The frame index: write and read. tests/bad_inputs has the inputs that are refused."""

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
from pyquaternion import Quaternion

from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations, Frame, Lidar
from fsdbev.data.io import arrow_file


def assert_same(found, expected):
    for field in fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape, field.name
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        elif isinstance(b, Lidar):
            assert_same(a, b)
        else:
            assert a == b, field.name


@pytest.fixture
def path(tmp_path, frames):
    path = tmp_path / "index" / "train.arrow"
    write_index(path, frames(4, ((64, 48), (80, 60))), {"split": "train"})
    return path


def test_every_field_is_read_back(tmp_path, frames):
    rows = frames(3, ((64, 48), (80, 60)), reference=1)
    pose = Quaternion.random().transformation_matrix
    pose[:3, 3] = [0.9, 0.1, 1.8]
    lidar = Lidar("sweeps/x.bin", 123, pose, np.linalg.inv(pose), "lidarseg/x.bin")
    rows[0] = (replace(rows[0][0], lidar=lidar), Annotations.empty())
    rows[1] = (replace(rows[1][0], lidar=replace(lidar, lidarseg_path=None)), rows[1][1])
    write_index(tmp_path / "x.arrow", rows, {"split": "s"})
    read = FrameIndex(tmp_path / "x.arrow")
    assert len(read) == 3 and read.info["split"] == "s" and read.num_annotations == 4
    for row, (frame, annotations) in enumerate(rows):
        assert_same(read[row], frame)
        assert_same(read.annotations(row), annotations)


def test_rows_are_views_and_an_index_is_pickled_as_its_path(path):
    read = FrameIndex(path)
    assert not read[1].cam2ego.flags.owndata and not read[1].cam2ego.flags.writeable
    data = pickle.dumps(read)
    assert len(data) < 500
    assert_same(pickle.loads(data)[2], read[2])
    for row in (-1, 4):
        with pytest.raises(IndexError, match="4 in"):
            read[row]


def test_failed_write_leaves_the_old_file(path, frames, monkeypatch):
    before = path.read_bytes()
    rows = frames(2)
    rows[1] = (replace(rows[1][0], sample_token="a/b"), rows[1][1])
    with pytest.raises(ValueError, match="sample token"):
        write_index(path, rows)

    def fail(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(arrow_file.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_index(path, frames(1))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["train.arrow"]


def test_scenes_are_numbered_in_order(tmp_path, frames):
    rows = [
        (replace(frame, scene_token=scene, previous=-1, next=-1), objects)
        for (frame, objects), scene in zip(frames(4), "zaza", strict=True)
    ]
    write_index(tmp_path / "x.arrow", rows)
    assert FrameIndex(tmp_path / "x.arrow").scene_ids.tolist() == [0, 1, 0, 1]


def test_frames_before_a_sample(tmp_path, frames):
    rows = frames(6)
    for row, links in {2: (1, -1), 3: (-1, 4)}.items():  # two scenes of three
        frame = replace(rows[row][0], previous=links[0], next=links[1])
        rows[row] = (frame, rows[row][1])
    write_index(tmp_path / "x.arrow", rows)
    read = FrameIndex(tmp_path / "x.arrow")
    assert read.frame_rows(5, 1) == [5]
    assert read.frame_rows(5, 3) == [5, 4, 3]
    assert read.frame_rows(5, 2, spacing=2) == [5, 3]
    assert read.frame_rows(3, 3) == [3, 3, 3]  # the sample replaces frames before its scene
    assert read.frame_rows(4, 3) == [4, 3, 4]
    assert read.frame_rows(4, 2, spacing=2) == [4, 4]


def test_classes_count_only_objects_with_points(path):
    present = FrameIndex(path).classes_with_points
    assert present.shape == (4, 10)
    assert present[:, 0].all() and present.sum() == 4  # the pedestrian has no point


def test_box_yaw_and_corners_follow_the_rotation():
    box = np.array([[1, 2, 3, 4, 2, 1, 0.7, 0.5, -0.5]], np.float32)
    annotations = Annotations.from_boxes(box, [3])
    np.testing.assert_allclose(annotations.boxes, box, atol=1e-6)
    corners = annotations.corners()[0]
    heading = np.array([np.cos(0.7), np.sin(0.7), 0])
    np.testing.assert_allclose(corners[4] - corners[0], 4 * heading, atol=1e-5)
    np.testing.assert_allclose(corners[1] - corners[0], [0, 0, 1], atol=1e-5)
    np.testing.assert_allclose(corners.mean(axis=0), [1, 2, 3], atol=1e-5)


def test_poses_of_a_frame(frames):
    frame: Frame = frames(1, ((64, 48), (80, 60)), reference=1)[0][0]
    np.testing.assert_array_equal(frame.key_ego2global, frame.ego2global[1])
    both = frame.global2cam @ frame.ego2global @ frame.cam2ego
    np.testing.assert_allclose(both, np.tile(np.eye(4), (2, 1, 1)), atol=1e-9)
