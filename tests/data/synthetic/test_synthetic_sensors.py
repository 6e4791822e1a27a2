"""Geometry, images and LiDAR of the synthetic world, against brute-force computations."""

import numpy as np
import pytest
from shapely import Point, Polygon

from fsdbev.data.synthetic.catalog import visibility_token
from fsdbev.data.synthetic.crowd import Crowd
from fsdbev.data.synthetic.lidar import BEAM_ELEVATIONS, MAX_RANGE, scan
from fsdbev.data.synthetic.options import SyntheticOptions
from fsdbev.data.synthetic.parts import MARGIN, Parts
from fsdbev.data.synthetic.raycast import BoxesInSensor, hit_box
from fsdbev.data.synthetic.render import View, render_scene
from fsdbev.data.synthetic.sensor_rig import draw_rig
from fsdbev.data.synthetic.trajectory import LineMotion, rotation_z
from fsdbev.data.synthetic.world import World, build_world
from fsdbev.structures import CLASS_NAMES

SIZE = (160, 90)
TIME = 0.5


@pytest.fixture(scope="module")
def street_world() -> World:
    return build_world(SyntheticOptions(frames=3), np.random.default_rng([3, 1]))


@pytest.fixture(scope="module")
def rig():
    return draw_rig(SIZE, np.random.default_rng(5))


@pytest.mark.parametrize("class_name", CLASS_NAMES)
@pytest.mark.parametrize("moving", [False, True])
def test_shapes_fill_their_boxes_and_stay_inside(class_name, moving):
    for seed in range(12):
        crowd = Crowd(np.zeros(1), np.random.default_rng(seed))
        ridden = moving and class_name in ("motorcycle", "bicycle")
        motion = LineMotion(0.0, 0.0, 0.0, 1.0 if moving else 0.0)
        crowd.add(class_name, motion, ridden=ridden)
        actor = crowd.actors[0]
        corners = actor.shape.corners().reshape(-1, 3) - (0.0, 0.0, actor.size[2] / 2)
        room = np.array(actor.size) / 2 - np.abs(corners).max(axis=0)
        assert (room > MARGIN - 1e-9).all() and (room < 0.06).all(), (seed, room)
        room = np.array(actor.size) / 2 + corners.min(axis=0)
        assert (room > MARGIN - 1e-9).all() and (room < 0.06).all(), (seed, room)


def test_nothing_overlaps_at_any_time(street_world):
    def outline(actor, pose):
        signs = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) / 2
        corners = (signs * actor.size[:2]) @ rotation_z(pose[2])[:2, :2].T
        return Polygon(corners + pose[:2])

    for time in (0.0, 0.4, 1.0):
        poses = street_world.poses_at(time)
        shapes = [outline(a, p) for a, p in zip(street_world.actors, poses, strict=True)]
        x, y, _ = street_world.ego.pose(time)
        for i, shape in enumerate(shapes):
            assert shape.distance(Point(x, y)) > 1.2
            assert all(shape.distance(other) > 0 for other in shapes[:i])


def test_visibility_levels_are_those_of_nuscenes():
    levels = [visibility_token(v) for v in (0.0, 0.39, 0.4, 0.59, 0.6, 0.79, 0.8, 1.0)]
    assert levels == list("11223344")


def test_an_image_equals_casting_every_ray_at_every_box(street_world, rig):
    sensor = rig[2]
    ego2street = street_world.ego.ego2street(TIME)
    view = View(ego2street @ sensor.sensor2ego, sensor.intrinsics, SIZE)
    parts, actors = street_world.parts_at(TIME), len(street_world.actors)
    noise = np.zeros((*SIZE[::-1], 3), dtype=np.float32)
    picture = render_scene(view, parts, street_world.street, street_world.light, noise, actors)
    boxes = BoxesInSensor.of(parts, view.cam2street)
    x, y = np.meshgrid(*view.rays())
    rays = np.stack([x, y, np.ones_like(x)])
    depth = np.full(x.shape, np.inf, dtype=np.float32)
    owner = np.full(x.shape, -1)
    outlines = np.zeros((actors, *x.shape), dtype=bool)  # of each actor without occlusion
    for index in range(len(parts)):
        direction = np.einsum("ij,jhw->ihw", boxes.sensor2box[index], rays)
        hit = hit_box(boxes.origin[index], boxes.half[index], direction)
        owner[hit < depth] = parts.owner[index]
        depth = np.minimum(depth, hit)
        if parts.owner[index] >= 0:
            outlines[parts.owner[index]] |= np.isfinite(hit)
    assert np.count_nonzero(owner >= 0) > 500
    visible = [np.count_nonzero(owner == actor) for actor in range(actors)]
    assert np.abs(picture.visible - visible).max() < 8
    covered = outlines.sum(axis=(1, 2))
    assert np.abs(picture.covered - covered).max() < 8 and (covered - visible).max() > 50
    assert np.count_nonzero(owner != picture.owner) < 8
    hit = np.isfinite(depth)
    assert np.count_nonzero(np.abs(depth[hit] - picture.depth[hit]) > 0.02) < 8


def test_lidar_ranges_are_the_nearest_of_all_boxes_and_the_ground(street_world, rig):
    lidar2street = street_world.ego.ego2street(TIME) @ rig[-1].sensor2ego
    parts = street_world.parts_at(TIME)
    sweep = scan(parts, street_world.street, lidar2street, 60, np.random.default_rng(0))
    boxes = BoxesInSensor.of(parts, lidar2street)
    measured = np.linalg.norm(sweep.points[:, :3], axis=1)
    rays = (sweep.points[:, :3] / measured[:, None]).T
    fall = lidar2street[2, :3] @ rays
    truth = np.where(fall < 0, -lidar2street[2, 3] / fall, np.inf)
    for index in range(len(parts)):
        direction = boxes.sensor2box[index] @ rays
        truth = np.minimum(truth, hit_box(boxes.origin[index], boxes.half[index], direction))
    assert np.quantile(np.abs(truth - measured), 0.99) < 0.03
    assert measured.max() < MAX_RANGE + 0.1
    beam = sweep.points[:, 4].astype(int)
    elevation = np.degrees(np.arcsin(sweep.points[:, 2] / measured))
    np.testing.assert_allclose(elevation, BEAM_ELEVATIONS[beam], atol=1e-3)


def test_parts_keep_their_size_and_place_when_moved(street_world):
    shape = street_world.actors[0].shape
    moved = Parts.concatenate([shape, shape]).moved(rotation_z(0.3), np.array((1.0, 2.0, 3.0)))
    expected = shape.corners() @ rotation_z(0.3).T + (1.0, 2.0, 3.0)
    np.testing.assert_allclose(moved.corners()[len(shape) :], expected, atol=1e-12)
