"""Point cloud intensification: each rule with an expectation by hand."""

from dataclasses import replace

import numpy as np
import pytest

from fsdbev.data.index.records import Annotations
from fsdbev.data.labels.intensification import combine_frames, pseudo_points
from fsdbev.data.labels.sweeps import BoxHits, WorldPoints
from fsdbev.structures import NUSCENES_CLASSES

NO_HITS = BoxHits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
ORIGIN = np.array([1000.0, 500, 0])  # key ego position of the first frame of ``frames``
CAR, BUS, PEDESTRIAN = 0, 3, 8


def box(x, y, length=4.0, width=2.0):
    return [x, y, 1, length, width, 2, 0, 0, 0]


def parked(*boxes, **fields) -> Annotations:
    """Cars with the attribute "parked", unless ``fields`` has others."""
    fields = {"attributes": ("vehicle.parked",) * len(boxes), **fields}
    return Annotations.from_boxes(np.array(boxes), [CAR] * len(boxes), **fields)


def neighbour(*points) -> WorldPoints:
    """Points (x, y, z, class) of a neighbouring frame, in the key ego frame of the sample."""
    points = np.array(points, float).reshape(-1, 4)
    return WorldPoints(points[:, :3] + ORIGIN, points[:, 3].astype(np.int8), NO_HITS)


@pytest.fixture
def combine(frames):
    frame = frames(1)[0][0]

    def run(annotations, *neighbours):
        found = combine_frames(frame, annotations, neighbours, NUSCENES_CLASSES)
        assert len(found.positions) == len(found.class_ids)
        return found, (found.positions - ORIGIN).tolist()

    return run


def test_foreground_in_static_boxes_is_added_from_both_neighbours(combine):
    before = neighbour((10, 0, 1, CAR), (10, 0.5, 1, -1), (12.1, 0, 1, CAR), (11.9, 0, 1, BUS))
    after = neighbour((20, 5, 1, PEDESTRIAN), (20, 0, 1, CAR), (8.5, -0.9, 0.5, CAR))
    found, positions = combine(parked(box(10, 0), box(20, 5)), before, after)
    np.testing.assert_allclose(positions, [[10, 0, 1], [11.9, 0, 1], [20, 5, 1], [8.5, -0.9, 0.5]])
    assert found.class_ids.tolist() == [CAR, BUS, PEDESTRIAN, CAR]  # those of their own frame
    pairs = sorted(zip(found.hits.point.tolist(), found.hits.box.tolist(), strict=True))
    assert pairs == [(0, 0), (1, 0), (2, 1), (3, 0)]


@pytest.mark.parametrize(
    ("attribute", "static"),
    [
        ("", True),
        ("vehicle.parked", True),
        ("vehicle.stopped", True),
        ("cycle.without_rider", True),
        ("pedestrian.standing", True),
        ("pedestrian.sitting_lying_down", True),
        ("vehicle.moving", False),
        ("cycle.with_rider", False),
        ("pedestrian.moving", False),
    ],
)
def test_static_attributes(combine, attribute, static):
    found, _ = combine(parked(box(10, 0), attributes=(attribute,)), neighbour((10, 0, 1, CAR)))
    assert len(found) == static


@pytest.mark.parametrize(("count", "added"), [(0, 1), (999, 1), (1000, 0), (5000, 0)])
def test_objects_with_a_thousand_points_get_none_added(combine, count, added):
    annotations = parked(box(10, 0), num_lidar_points=np.array([count], np.int32))
    assert len(combine(annotations, neighbour((10, 0, 1, CAR)))[0]) == added


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_points_nearer_to_a_moving_box_are_not_added(combine, order):
    """A moving box at x = 10 and a static one at x = 12 overlap from x = 10.1 to 11.9."""
    boxes, attributes = [box(10, 0), box(12, 0)], ["vehicle.moving", "vehicle.parked"]
    annotations = parked(*(boxes[i] for i in order), attributes=tuple(attributes[i] for i in order))
    points = neighbour((10.5, 0, 1, CAR), (11.5, 0, 1, CAR), (8.5, 0, 1, CAR), (13, 0, 1, CAR))
    _, positions = combine(annotations, points)
    np.testing.assert_allclose(positions, [[11.5, 0, 1], [13, 0, 1]])


def test_a_point_in_two_static_boxes_is_added_once(combine):
    found, positions = combine(parked(box(10, 0), box(12, 0)), neighbour((10.5, 0, 1, CAR)))
    assert len(positions) == 1 and sorted(found.hits.box.tolist()) == [0, 1]


def test_nothing_to_add(combine):
    moving = parked(box(10, 0), attributes=("vehicle.moving",))
    points = neighbour((10, 0, 1, CAR))
    for annotations, neighbours in (
        (moving, [points]),  # no static box
        (Annotations.empty(), [points]),  # no box
        (parked(box(10, 0)), []),  # no neighbour
        (parked(box(10, 0)), [neighbour(), neighbour()]),  # neighbours without points
        (parked(box(10, 0)), [neighbour((10, 0, 1, -1))]),  # only background
    ):
        found, _ = combine(annotations, *neighbours)
        assert len(found) == len(found.hits.point) == 0 and found.class_ids.dtype == np.int8


#: Camera of the pseudo points: 100 x 50 pixels, focal length 100.
INTRINSICS = np.array([[100, 0, 50], [0, 100, 25], [0, 0, 1.0]])


def block(x, y, z):
    """Corners of a box in the camera frame, from its (lower, upper) bounds along each axis."""
    return np.array([[a, b, c] for a in x for b in y for c in z], float)


AHEAD = block((-1, 1), (-0.5, 0.5), (10, 12))


def pseudo(*blocks, visibility=4, without_points=True, class_ids=None):
    count = len(blocks)
    class_ids = [PEDESTRIAN] * count if class_ids is None else class_ids
    annotations = replace(
        Annotations.from_boxes(np.zeros((count, 9)), class_ids),
        visibility=np.broadcast_to(np.int8(visibility), count),
    )
    return pseudo_points(
        np.array(blocks).reshape(count, 8, 3),
        annotations,
        INTRINSICS,
        np.array([100, 50], np.int32),
        np.broadcast_to(without_points, count),
    )


def test_pixel_depth_and_class():
    """Straight ahead: the near face, 40..60 x 20..30. To the right: from the far face's left side,
    u = 50 + 400 / 12, to the image's edge at 100; v of the near face, 21..29."""
    right = block((4, 8), (-0.4, 0.4), (10, 12))
    points, owners = pseudo(AHEAD, right, class_ids=[PEDESTRIAN, CAR])
    assert owners.tolist() == [0, 1] and points.class_ids.tolist() == [PEDESTRIAN, CAR]
    np.testing.assert_allclose(points.u, [50, (50 + 400 / 12 + 100) / 2], atol=1e-4)
    np.testing.assert_allclose(points.v, [25, 25], atol=1e-4)
    np.testing.assert_allclose(points.depth, [10, 10])
    kinds = [getattr(points, name).dtype for name in ("u", "v", "depth", "class_ids")]
    assert kinds == [np.float32, np.float32, np.float32, np.int8]


def test_depth_is_that_of_the_nearest_corner():
    turned = AHEAD.copy()
    turned[:, 2] += 0.3 * turned[:, 0]  # the side at x = -1 is nearer, 9.7 m
    np.testing.assert_allclose(pseudo(turned)[0].depth, [9.7], rtol=1e-6)


@pytest.mark.parametrize(("level", "count"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)])
def test_only_visible_objects(level, count):
    assert len(pseudo(AHEAD, visibility=level)[0]) == count


def test_only_objects_without_points():
    mask = np.array([False, True, False])
    points, owners = pseudo(AHEAD, AHEAD, AHEAD, without_points=mask)
    assert len(points) == 1 and owners.tolist() == [1]


@pytest.mark.parametrize(
    ("near", "far", "count"),
    [
        (1.01, 2, 1),
        (1.0, 2, 0),  # labels must be deeper than 1 m
        (-0.5, 4, 0),  # around the camera
        (-9, -7, 0),  # behind it
        (70, 72, 1),  # at any depth: the mapper drops those outside of the model's bins
    ],
)
def test_only_in_front_of_the_camera_and_in_the_image(near, far, count):
    ahead, outside = block((-0.2, 0.2), (-0.2, 0.2), (near, far)), block((8, 12), (-1, 1), (10, 12))
    points, owners = pseudo(ahead, outside)
    assert len(points) == len(owners) == count
