"""Sweeps: projection against the devkit, classes from lidarseg or boxes, points in boxes."""

import json
from dataclasses import replace

import numpy as np
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from fsdbev.data.index.records import Annotations
from fsdbev.data.labels.sweeps import (
    BoxHits,
    WorldPoints,
    points_in_boxes,
    project_points,
    read_lidar,
    read_lidarseg,
    sweep_points,
)

NO_HITS = BoxHits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def sweep(synthetic, frame):
    """Returns global positions and lidarseg indices of a sample's sweep."""
    points = read_lidar(synthetic.dataroot / frame.lidar.path)
    lidar2global = frame.lidar.ego2global @ frame.lidar.lidar2ego
    positions = points.astype(np.float64) @ lidar2global[:3, :3].T + lidar2global[:3, 3]
    return positions, read_lidarseg(synthetic.dataroot / frame.lidar.lidarseg_path, len(points))


def test_projection_equals_the_devkit(tables, synthetic):
    frame = synthetic.index[1]
    positions, _ = sweep(synthetic, frame)
    seen = project_points(WorldPoints(positions, np.zeros(len(positions), np.int8), NO_HITS), frame)
    sample = tables.get("sample", frame.sample_token)
    for channel, ours in zip(frame.channels, (s.pixels for s in seen), strict=True):
        theirs, depth, _ = tables.explorer.map_pointcloud_to_image(
            sample["data"]["LIDAR_TOP"], sample["data"][channel]
        )
        assert abs(len(depth) - len(ours)) <= 2  # the devkit rounds global positions to float32
        if len(depth) == len(ours):
            np.testing.assert_allclose(ours.depth, depth, atol=1e-3)
            np.testing.assert_allclose(np.stack([ours.u, ours.v]), theirs[:2], atol=0.02)
        assert len(ours) > 500 and ours.depth.min() > 1
        assert 1 < ours.u.min() and ours.u.max() < 159 and 1 < ours.v.min() and ours.v.max() < 89


def test_range_and_margin_of_the_projection(frames):
    frame = frames(1, ((100, 50),))[0][0]
    camera = np.array(
        [
            [0, 0, 1.0],  # must be deeper than 1 m
            [0, 0, 1.01],  # the image's centre
            [0, 0, -5],  # behind
            [-4.91, 0, 10],  # u = 0.9: in the margin
            [-4.89, 0, 10],  # u = 1.1
            [0, 2.41, 10],  # v = 49.1: in the margin
            [0, 2.39, 10],  # v = 48.9
        ]
    )
    cam2global = frame.ego2global[0] @ frame.cam2ego[0]
    positions = camera @ cam2global[:3, :3].T + cam2global[:3, 3]
    found = project_points(WorldPoints(positions, np.arange(7, dtype=np.int8), NO_HITS), frame)[0]
    assert found.index.tolist() == [1, 4, 6]
    seen = found.pixels
    assert seen.class_ids.tolist() == [1, 4, 6]
    np.testing.assert_allclose(seen.u, [50, 1.1, 50], atol=1e-3)
    np.testing.assert_allclose(seen.v, [25, 25, 48.9], atol=1e-3)
    np.testing.assert_allclose(seen.depth, [1.01, 10, 10], atol=1e-5)


def test_classes_from_lidarseg(synthetic):
    frame, annotations = synthetic.index[0], synthetic.index.annotations(0)
    lookup = json.loads(synthetic.index.info["lidarseg_classes"])
    positions, lidarseg = sweep(synthetic, frame)
    found = sweep_points(frame, annotations, synthetic.dataroot, lookup)
    np.testing.assert_array_equal(found.class_ids, [lookup[i] for i in lidarseg])
    np.testing.assert_allclose(found.positions, positions, atol=1e-6)
    assert (found.class_ids >= 0).sum() > 50 and (found.class_ids == -1).sum() > 500


def test_without_lidarseg_classes_are_those_of_the_boxes(synthetic):
    """Nearly every point of a detection class in lidarseg is in a box of that class."""
    frame, annotations = synthetic.index[0], synthetic.index.annotations(0)
    lookup = np.array(json.loads(synthetic.index.info["lidarseg_classes"]))
    bare = replace(frame, lidar=replace(frame.lidar, lidarseg_path=None))
    from_boxes = sweep_points(bare, annotations, synthetic.dataroot).class_ids
    truth = lookup[sweep(synthetic, frame)[1]]
    assert (from_boxes == truth)[truth >= 0].mean() > 0.95
    assert (from_boxes == truth).mean() > 0.98


def test_points_in_tilted_boxes_equal_the_devkit():
    rng = np.random.default_rng(0)
    turns = [Quaternion(axis=(0.1, -0.05, 1), radians=angle) for angle in (0.8, 2.0, -0.3)]
    centers = np.array([[3, -2, 1], [3.5, -1, 1], [40, 9, 0.0]])
    boxes = np.column_stack([centers, np.tile([4, 2, 1.5, 0, 0, 0], (3, 1))])
    annotations = replace(
        Annotations.from_boxes(boxes, [2, 2, 2]),
        rotation=np.stack([turn.rotation_matrix for turn in turns]).astype(np.float32),
    )
    points = np.concatenate([rng.uniform(-4, 4, (4000, 3)) + c for c in centers])
    hits = points_in_boxes(points, np.eye(4), annotations)
    for box, (center, turn) in enumerate(zip(centers, turns, strict=True)):
        expected = np.flatnonzero(points_in_box(Box(center, [2, 4, 1.5], turn), points.T))
        mask = hits.box == box
        assert np.sort(hits.point[mask]).tolist() == expected.tolist() and len(expected) > 20
        distance = np.linalg.norm(points[hits.point[mask]] - center, axis=1)
        np.testing.assert_allclose(hits.distance[mask], distance, atol=1e-5)
    assert len(np.unique(hits.point)) < len(hits.point)  # some are in two boxes


def test_points_far_off_are_in_no_box():
    annotations = Annotations.from_boxes(np.array([[0, 0, 0, 4, 4, 4, 0, 0, 0]]), [0])
    points = np.array([[1e6, 0, 0], [-1e6, 0, 0], [0, 0, 0], [0, 1e6, 0]])
    assert points_in_boxes(points, np.eye(4), annotations).point.tolist() == [2]
    assert len(points_in_boxes(points, np.eye(4), Annotations.empty()).point) == 0
    assert len(points_in_boxes(points[:0], np.eye(4), annotations).point) == 0


def test_where_boxes_overlap_the_nearer_centre_wins():
    boxes = np.array([[0, 0, 0, 4, 4, 4, 0, 0, 0], [2, 0, 0, 4, 4, 4, 0, 0, 0]])
    points = np.array([[0.5, 0, 0], [1.5, 0, 0], [-1.9, 0, 0], [3.9, 0, 0], [9, 0, 0], [1, 0, 0]])
    for order, expected in (([0, 1], [0, 1, 0, 1, -1, 0]), ([1, 0], [1, 0, 1, 0, -1, 0])):
        annotations = Annotations.from_boxes(boxes[order], [5, 8])
        hits = points_in_boxes(points, np.eye(4), annotations)
        assert hits.nearest_box(6).tolist() == expected  # the last point is a tie: the first box


def test_hits_of_some_points():
    hits = BoxHits(np.array([0, 2, 2, 5]), np.array([1, 0, 3, 3]), np.array([0.1, 0.2, 0.3, 0.4]))
    assert hits.boxes_with(np.array([0, 5]), 5).tolist() == [False, True, False, True, False]
    assert not hits.boxes_with(np.array([1, 3, 4]), 5).any()
    some = hits.of_points(np.array([False, True, True, False, False, True]))
    assert (some.point.tolist(), some.box.tolist()) == ([1, 1, 2], [0, 3, 3])
    assert some.distance.tolist() == [0.2, 0.3, 0.4]


def test_no_lidar_gives_no_points(frames):
    frame, annotations = frames(1, ((64, 48), (64, 48)))[0]
    points = sweep_points(frame, annotations, "/nowhere")
    assert len(points) == 0 and [len(seen.index) for seen in project_points(points, frame)] == [
        0,
        0,
    ]
