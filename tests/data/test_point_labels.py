"""Point labels: projection as the devkit's, classes from lidarseg or boxes, storage."""

import json
from dataclasses import replace

import numpy as np
import pytest
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from fsdbev.data import nuscenes, point_labels
from fsdbev.data.point_labels import (
    LabelledPoints,
    PixelPoints,
    classes_from_boxes,
    label_path,
    label_sample,
    project,
    read_lidar,
    read_lidarseg,
    read_point_labels,
    write_point_labels,
)
from fsdbev.data.records import Annotations


@pytest.fixture(scope="module")
def tables(synthetic_root):
    return nuscenes.load_nuscenes(synthetic_root, "v1.0-synth")


def sweep(synthetic, frame):
    """Global positions and lidarseg indices of a sample's sweep."""
    points = read_lidar(synthetic.dataroot / frame.lidar.path)
    lidar2global = frame.lidar.ego2global @ frame.lidar.lidar2ego
    positions = points.astype(np.float64) @ lidar2global[:3, :3].T + lidar2global[:3, 3]
    return positions, read_lidarseg(synthetic.dataroot / frame.lidar.lidarseg_path, len(points))


def test_projection_is_the_devkits(tables, synthetic):
    frame = synthetic.index[1]
    positions, _ = sweep(synthetic, frame)
    seen = project(LabelledPoints(positions, np.zeros(len(positions), np.int8)), frame)
    sample = tables.get("sample", frame.sample_token)
    for channel, ours in zip(frame.channels, seen, strict=True):
        theirs, depth, _ = tables.explorer.map_pointcloud_to_image(
            sample["data"]["LIDAR_TOP"], sample["data"][channel]
        )
        assert abs(len(depth) - len(ours)) <= 2  # the devkit rounds global positions to float32
        if len(depth) == len(ours):
            np.testing.assert_allclose(ours.depth, depth, atol=1e-3)
            np.testing.assert_allclose(np.stack([ours.u, ours.v]), theirs[:2], atol=0.02)
        assert len(ours) > 500 and ours.depth.min() > 1
        assert 1 < ours.u.min() and ours.u.max() < 159 and 1 < ours.v.min() and ours.v.max() < 89


def test_points_a_camera_keeps(frames):
    frame = frames(1, ((100, 50),))[0][0]
    camera = np.array(
        [
            [0, 0, 1.0],  # not deeper than 1 m
            [0, 0, 1.01],  # the image's centre
            [0, 0, -5],  # behind
            [-4.91, 0, 10],  # u = 0.9: not inside the margin
            [-4.89, 0, 10],  # u = 1.1
            [0, 2.41, 10],  # v = 49.1: beyond the margin
            [0, 2.39, 10],  # v = 48.9
        ]
    )
    cam2global = frame.ego2global[0] @ frame.cam2ego[0]
    positions = camera @ cam2global[:3, :3].T + cam2global[:3, 3]
    seen = project(LabelledPoints(positions, np.arange(7, dtype=np.int8)), frame)[0]
    assert seen.class_ids.tolist() == [1, 4, 6]
    np.testing.assert_allclose(seen.u, [50, 1.1, 50], atol=1e-3)
    np.testing.assert_allclose(seen.v, [25, 25, 48.9], atol=1e-3)
    np.testing.assert_allclose(seen.depth, [1.01, 10, 10], atol=1e-5)


def test_foreground_is_what_lidarseg_says(synthetic):
    frame, annotations = synthetic.index[0], synthetic.index.annotations(0)
    lookup = json.loads(synthetic.index.info["lidarseg_classes"])
    positions, lidarseg = sweep(synthetic, frame)
    class_ids = np.array([lookup[i] for i in lidarseg], np.int8)
    expected = project(LabelledPoints(positions, class_ids), frame)
    found = label_sample(frame, annotations, synthetic.dataroot, lookup)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.class_ids, b.class_ids)
    everything = np.concatenate([points.class_ids for points in found])
    assert (everything >= 0).sum() > 50 and (everything == -1).sum() > 500


def test_without_lidarseg_the_boxes_decide(synthetic):
    """Nearly every point that lidarseg gives to a detection class is in a box of that class."""
    frame, annotations = synthetic.index[0], synthetic.index.annotations(0)
    lookup = np.array(json.loads(synthetic.index.info["lidarseg_classes"]))
    positions, lidarseg = sweep(synthetic, frame)
    from_boxes = classes_from_boxes(positions, frame.key_ego2global, annotations)
    truth = lookup[lidarseg]
    assert (from_boxes == truth)[truth >= 0].mean() > 0.95
    assert (from_boxes == truth).mean() > 0.98
    bare = replace(frame, lidar=replace(frame.lidar, lidarseg_path=None))
    labels = label_sample(bare, annotations, synthetic.dataroot)
    expected = project(LabelledPoints(positions, from_boxes), frame)
    for a, b in zip(labels, expected, strict=True):
        np.testing.assert_array_equal(a.class_ids, b.class_ids)


def test_points_in_tilted_boxes_are_the_devkits():
    rng = np.random.default_rng(0)
    turn = Quaternion(axis=(0.1, -0.05, 1), radians=0.8)
    annotations = replace(
        Annotations.from_boxes(np.array([[3, -2, 1, 4, 2, 1.5, 0, 0, 0]]), [2]),
        rotation=turn.rotation_matrix[None].astype(np.float32),
    )
    points = rng.uniform(-4, 4, (4000, 3)) + [3, -2, 1]
    found = classes_from_boxes(points, np.eye(4), annotations)
    box = Box([3, -2, 1], [2, 4, 1.5], turn)
    np.testing.assert_array_equal(found == 2, points_in_box(box, points.T))
    assert 20 < (found == 2).sum() < 2000


def test_where_boxes_overlap_the_nearer_centre_wins():
    boxes = np.array([[0, 0, 0, 4, 4, 4, 0, 0, 0], [2, 0, 0, 4, 4, 4, 0, 0, 0]])
    points = np.array([[0.5, 0, 0], [1.5, 0, 0], [-1.9, 0, 0], [3.9, 0, 0], [9, 0, 0]])
    for order in ([0, 1], [1, 0]):
        annotations = Annotations.from_boxes(boxes[order], np.array([5, 8])[order])
        class_ids = classes_from_boxes(points, np.eye(4), annotations)
        assert class_ids.tolist() == [5, 8, 5, 8, -1]


@pytest.mark.parametrize(("size", "step"), [((1600, 900), 1 / 32), ((160, 90), 1 / 256)])
def test_storage_rounds_no_more_than_it_says(tmp_path, size, step):
    rng = np.random.default_rng(0)
    cameras = [
        PixelPoints(
            rng.uniform(1, size[0] - 1, n).astype(np.float32),
            rng.uniform(1, size[1] - 1, n).astype(np.float32),
            rng.uniform(1, 120, n).astype(np.float32),
            rng.integers(-1, 10, n).astype(np.int8),
        )
        for n in (1000, 0, 1)
    ]
    path = tmp_path / "x.arrow"
    write_point_labels(path, cameras, np.array([size] * 3), "source")
    assert path.stat().st_size < 7 * 1001 + 3000
    for a, b in zip(read_point_labels(path, "source"), cameras, strict=True):
        np.testing.assert_allclose(a.u, b.u, atol=step / 2 + 1e-6)
        np.testing.assert_allclose(a.v, b.v, atol=step / 2 + 1e-6)
        np.testing.assert_allclose(a.depth, b.depth, atol=1 / 512 + 1e-5)
        np.testing.assert_array_equal(a.class_ids, b.class_ids)
        assert a.u.dtype == a.depth.dtype == np.float32


def test_points_too_deep_to_store_are_left_out(tmp_path):
    values = np.array([5, 300, 10], np.float32)
    points = PixelPoints(values, values, values, np.array([0, 1, 2], np.int8))
    write_point_labels(tmp_path / "x.arrow", [points], np.array([[1600, 900]]), "")
    assert read_point_labels(tmp_path / "x.arrow")[0].class_ids.tolist() == [0, 2]


def test_labels_of_other_tables_or_format_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.arrow"
    write_point_labels(path, [PixelPoints.empty()], np.array([[64, 48]]), "old")
    with pytest.raises(ValueError, match="x.arrow: made from other tables .old. than the index"):
        read_point_labels(path, "new")
    newer = replace(point_labels.LABEL_FORMAT, version=99)
    monkeypatch.setattr(point_labels, "LABEL_FORMAT", newer)
    with pytest.raises(ValueError, match="fsdbev.version is '1', but this code reads '99'"):
        read_point_labels(path, "old")


def test_prepared_labels_are_the_computed_ones(synthetic):
    lookup = json.loads(synthetic.index.info["lidarseg_classes"])
    for row in range(len(synthetic.index)):
        frame = synthetic.index[row]
        expected = label_sample(frame, synthetic.index.annotations(row), synthetic.dataroot, lookup)
        assert label_path(synthetic.label_dir, frame.sample_token).is_file()
        for a, b in zip(synthetic.point_labels(frame), expected, strict=True):
            np.testing.assert_array_equal(a.class_ids, b.class_ids)
            np.testing.assert_allclose(a.u, b.u, atol=0.01)


def test_malformed_sensor_files_name_themselves(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(21))
    with pytest.raises(ValueError, match="x.bin: 21 bytes"):
        read_lidar(path)
    with pytest.raises(ValueError, match="x.bin: 21 labels for a sweep of 5 points"):
        read_lidarseg(path, 5)


def test_lidarseg_of_another_category_table_is_refused(synthetic):
    with pytest.raises(ValueError, match="lidarseg index .* is not in the category table"):
        label_sample(synthetic.index[0], synthetic.index.annotations(0), synthetic.dataroot, [-1])


def test_no_lidar_gives_no_points(frames):
    frame, annotations = frames(1, ((64, 48), (64, 48)))[0]
    assert [len(points) for points in label_sample(frame, annotations, "/nowhere")] == [0, 0]
