"""The frame index: write and read. tests/bad_inputs has the inputs that are refused."""

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
from pyquaternion import Quaternion

from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations, Frame, Lidar
from fsdbev.data.io import arrow_file
from fsdbev.structures import NUSCENES_CLASSES, ClassSet, Lens


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
    write_index(path, frames(4, ((64, 48), (80, 60))), NUSCENES_CLASSES, {"split": "train"})
    return path


def test_every_field_is_read_back(tmp_path, frames):
    rows = frames(3, ((64, 48), (80, 60)), reference=1)
    pose = Quaternion.random().transformation_matrix
    pose[:3, 3] = [0.9, 0.1, 1.8]
    lidar = Lidar("sweeps/x.bin", 123, pose, np.linalg.inv(pose), "lidarseg/x.bin")
    rows[0] = (replace(rows[0][0], lidar=lidar), Annotations.empty())
    rows[1] = (replace(rows[1][0], lidar=replace(lidar, lidarseg_path=None)), rows[1][1])
    write_index(tmp_path / "x.arrow", rows, NUSCENES_CLASSES, {"split": "s"})
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
        write_index(path, rows, NUSCENES_CLASSES)

    def fail(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(arrow_file.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_index(path, frames(1), NUSCENES_CLASSES)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["train.arrow"]


def test_scenes_are_numbered_in_order(tmp_path, frames):
    rows = [
        (replace(frame, scene_token=scene, previous=-1, next=-1), objects)
        for (frame, objects), scene in zip(frames(4), "zaza", strict=True)
    ]
    write_index(tmp_path / "x.arrow", rows, NUSCENES_CLASSES)
    assert FrameIndex(tmp_path / "x.arrow").scene_ids.tolist() == [0, 1, 0, 1]


def test_frames_before_a_sample(tmp_path, frames):
    rows = frames(6)
    for row, links in {2: (1, -1), 3: (-1, 4)}.items():  # two scenes of three
        frame = replace(rows[row][0], previous=links[0], next=links[1])
        rows[row] = (frame, rows[row][1])
    write_index(tmp_path / "x.arrow", rows, NUSCENES_CLASSES)
    read = FrameIndex(tmp_path / "x.arrow")
    assert read.frame_rows(5, 1) == [5]
    assert read.frame_rows(5, 3) == [5, 4, 3]
    assert read.frame_rows(5, 2, spacing=2) == [5, 3]
    assert read.frame_rows(3, 3) == [3, 3, 3]  # the sample replaces frames before its scene
    assert read.frame_rows(4, 3) == [4, 3, 4]
    assert read.frame_rows(4, 2, spacing=2) == [4, 4]


@pytest.fixture
def recording(tmp_path, frames):
    """Writes an index of one scene: recording(times of the samples in seconds)."""

    def make(times) -> FrameIndex:
        stamps = [round(1e6 * time) for time in times]
        rows = [
            (replace(frame, timestamp=stamp), objects)
            for (frame, objects), stamp in zip(frames(len(stamps)), stamps, strict=True)
        ]
        write_index(tmp_path / "x.arrow", rows, NUSCENES_CLASSES)
        return FrameIndex(tmp_path / "x.arrow")

    return make


def test_frames_by_seconds_at_ten_hertz(recording):
    """The start of the scene replaces no frame that is farther than half an interval."""
    index = recording([0.1 * row for row in range(21)])
    expected = {20: [20, 15, 10], 7: [7, 2, 7], 3: [3, 0, 3], 2: [2, 2, 2], 0: [0, 0, 0]}
    assert {row: index.frame_rows(row, 3, interval=0.5) for row in expected} == expected
    assert index.frame_rows(20, 3, spacing=7, interval=0.5) == [20, 15, 10]
    assert index.most_frames_back(3, 0.5) == 12  # frame 2 is at most 1.25 s earlier
    assert index.most_frames_back(1, 0.5) == 2


def test_frames_by_seconds_of_irregular_times(recording):
    rng = np.random.default_rng(0)
    steps = np.where(np.arange(80) % 13 == 5, 0.35, 0.1)  # missing frames
    times = np.round(np.cumsum(steps) + rng.uniform(-0.04, 0.04, 80), 6)
    index = recording(times)
    missing = 0
    for row, time in enumerate(times):
        distance = np.abs(times[: row + 1] - (time - 0.5 * np.arange(4)[:, None]))
        expected = np.where(distance.min(axis=1) <= 0.25, distance.argmin(axis=1), row)
        assert index.frame_rows(row, 4, interval=0.5) == expected.tolist()
        missing += (expected[1:] == row).sum()
    assert 0 < missing < 20
    back = [row - index.frame_rows(row, 4, interval=0.5)[-1] for row in range(80)]
    assert max(back) <= index.most_frames_back(4, 0.5) <= max(back) + 3


def test_frames_by_seconds_across_a_gap(recording):
    """The key frame replaces the frames in the gap, and those before it are used."""
    index = recording([0, 0.5, 1.0, 4.0, 4.5, 5.0])
    assert index.frame_rows(5, 3, interval=0.5) == [5, 4, 3]
    assert index.frame_rows(4, 3, interval=0.5) == [4, 3, 4]
    assert index.frame_rows(3, 3, interval=0.5) == [3, 3, 3]
    assert index.frame_rows(3, 8, interval=0.5) == [3, 3, 3, 3, 3, 3, 2, 1]


@pytest.mark.parametrize(
    ("spacing", "max_gap", "replaced"),
    [(1, 2.5, [4]), (2, 2.5, [4, 5]), (2, 1, [4, 5]), (1, np.inf, [])],
)
def test_frames_by_number_across_a_gap(recording, spacing, max_gap, replaced):
    """The key frame replaces a frame beyond the gap of 61.5 s, also of the second next sample."""
    index = recording([0, 0.5, 1.0, 1.5, 63.0, 63.5, 64.0, 64.5])
    for row in range(spacing, 8):
        earlier = row if row in replaced else row - spacing
        assert index.frame_rows(row, 2, spacing, max_gap=max_gap) == [row, earlier]
    report = index.gap_report(2, spacing, max_gap=max_gap)
    example = "such as sample4, 61.5 s after the one before it, usually 0.5 s"
    assert report.startswith(f"{len(replaced)} of 8 samples lack" if replaced else "")
    assert report.endswith(example if replaced else "")


def test_the_usual_distance_is_that_of_the_same_frames(recording):
    """Steps of 0.1 and 0.9 s: two steps are always 1 s, and one of 0.9 s is not usual."""
    index = recording([i // 2 + 0.1 * (i % 2) for i in range(9)])
    assert [index.frame_rows(row, 3)[1:] for row in (7, 8)] == [[6, 5], [8, 6]]
    assert index.frame_rows(8, 2, spacing=2) == [8, 6] and not index.gap_report(2, spacing=2)
    assert index.gap_report(3).startswith("4 of 9 samples lack an earlier frame")


def test_two_and_a_half_times_the_usual_distance_is_near_enough(recording):
    for step, earlier in ((1.25, 2), (1.250001, 3)):
        index = recording([0, 0.5, 1.0, 1.0 + step])
        assert index.frame_rows(3, 2) == [3, earlier]
        assert bool(index.gap_report()) == (earlier == 3)
    index = recording([0, 0.5, 62])  # of two distances the lower one is the usual one
    assert index.frame_rows(2, 2) == [2, 2] and index.frame_rows(1, 2) == [1, 0]
    assert not recording([0]).gap_report() and not recording([0, 62]).gap_report()


def test_gaps_by_seconds_are_reported(recording):
    """Not the samples at the start of the scene, which have no frame that is old enough."""
    index = recording([*(0.1 * row for row in range(10)), 5.0, 5.1, 5.2, 5.3])
    report = index.gap_report(2, interval=0.5)
    assert report == (
        "3 of 14 samples lack an earlier frame, which the key frame replaces, because samples are "
        "too far apart (dataloader.frame_interval=0.5), such as sample10, 4.1 s after the one "
        "before it, usually 0.1 s"
    )
    assert index.frame_rows(12, 2, interval=0.5) == [12, 12]
    assert index.frame_rows(13, 2, interval=0.5) == [13, 10]
    assert not recording([0.1 * row for row in range(14)]).gap_report(3, interval=0.5)


@pytest.mark.parametrize("interval", [0.1, 0.3, 0.5, 0.7])
def test_half_an_interval_is_near_enough(recording, interval):
    """One microsecond more is not. The later one of two equally near frames is used."""
    for step, is_near in ((0.5, True), (1.5, True), (0.5 - 1e-5, False), (1.5 + 1e-5, False)):
        index = recording([0, step * interval])
        assert index.frame_rows(1, 2, interval=interval) == [1, 0 if is_near else 1]
    index = recording([0, 0.5 * interval, 1.25 * interval])
    assert index.frame_rows(2, 2, interval=interval) == [2, 1]


def test_frames_by_seconds_stay_in_their_scene(tmp_path, frames):
    rows = frames(4)
    for row, links in {1: (0, -1), 2: (-1, 3)}.items():
        rows[row] = (replace(rows[row][0], previous=links[0], next=links[1]), rows[row][1])
    write_index(tmp_path / "x.arrow", rows, NUSCENES_CLASSES)
    index = FrameIndex(tmp_path / "x.arrow")
    assert [index.frame_rows(row, 2, interval=0.5) for row in (1, 2, 3)] == [[1, 0], [2, 2], [3, 2]]
    assert index.most_frames_back(3, 0.5) == 1


def test_classes_are_stored(tmp_path, frames):
    """Class ids index them; a person has no points."""
    classes = ClassSet(names=["vehicle", "person"], groups=[["vehicle", "person"]])
    rows = [(f, replace(a, class_ids=np.array([0, 1], np.int8))) for f, a in frames(2)]
    write_index(tmp_path / "x.arrow", rows, classes, {"split": "s"})
    index = pickle.loads(pickle.dumps(FrameIndex(tmp_path / "x.arrow")))
    assert index.classes == classes and index.info["split"] == "s"
    assert index.classes_with_points.tolist() == [[True, False]] * 2
    with pytest.raises(ValueError, match=r"must be 0 .. 0 \(vehicle\), got \[0 1\]; leave out"):
        write_index(tmp_path / "y.arrow", rows, ClassSet(names=["vehicle"]))


def test_lenses_are_stored(tmp_path, frames):
    """Shorter models are padded with zeros, which change nothing."""
    raw = np.array([[50, 0, 30], [0, 60, 20], [0, 0, 1.0]])
    lenses = (
        Lens("fisheye", raw, (0.1, 0.2, 0.3, 0.4)),
        None,
        Lens("radial_tangential", 2 * raw / [[1], [1], [2]], (0.1, 0.2, 0, 0, -0.3)),
    )
    rows = frames(2, ((64, 48),) * 3)
    rows[1] = (replace(rows[1][0], lenses=lenses), rows[1][1])
    write_index(tmp_path / "x.arrow", rows, NUSCENES_CLASSES)
    index = FrameIndex(tmp_path / "x.arrow")
    assert index[0].lenses == ()
    fisheye, none, radial = index[1].lenses
    assert fisheye == lenses[0] and none is None
    assert radial == replace(lenses[2], coefficients=(*lenses[2].coefficients, *[0] * 9))
    assert index[1].select(["CAM_2", "CAM_1"]).lenses == (radial, None)


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


def test_a_frame_with_part_of_its_cameras(frames):
    """The key ego frame stays that of the reference camera, also when it is left out twice."""
    frame = frames(1, ((64, 48), (80, 60), (32, 32)), reference=1)[0][0]
    kept = frame.select(["CAM_2", "CAM_1"])
    assert kept.channels == ("CAM_2", "CAM_1") and kept.reference_camera == 1
    assert kept.image_sizes.tolist() == [[32, 32], [80, 60]]
    assert kept.image_paths == ("images/0_2.png", "images/0_1.png")
    for name in ("intrinsics", "cam2ego", "ego2global", "camera_timestamps", "global2cam"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(frame, name)[[2, 1]])
    without = frame.select(["CAM_2", "CAM_0"])
    for each in (kept, without, without.select(["CAM_0"])):
        np.testing.assert_array_equal(each.key_ego2global, frame.ego2global[1])
    with pytest.raises(ValueError, match="sample0 has no camera 'X'; its cameras are CAM_0, CAM_1"):
        frame.select(["X"])


def test_poses_of_a_frame(frames):
    frame: Frame = frames(1, ((64, 48), (80, 60)), reference=1)[0][0]
    np.testing.assert_array_equal(frame.key_ego2global, frame.ego2global[1])
    both = frame.global2cam @ frame.ego2global @ frame.cam2ego
    np.testing.assert_allclose(both, np.tile(np.eye(4), (2, 1, 1)), atol=1e-9)
