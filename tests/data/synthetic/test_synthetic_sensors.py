"""Geometry, images and LiDAR of the synthetic world, against brute-force computations."""

import cv2
import numpy as np
import pytest
from shapely import Point, Polygon

from fsdbev.data.io.rectify import rectified_intrinsics, rectify
from fsdbev.data.synthetic.catalog import visibility_token
from fsdbev.data.synthetic.crowd import Crowd
from fsdbev.data.synthetic.lidar import BEAM_ELEVATIONS, MAX_RANGE, scan
from fsdbev.data.synthetic.options import SyntheticOptions
from fsdbev.data.synthetic.parts import MARGIN, Parts
from fsdbev.data.synthetic.raycast import BoxesInSensor, hit_box
from fsdbev.data.synthetic.render import render_scene
from fsdbev.data.synthetic.sensor_rig import draw_rig
from fsdbev.data.synthetic.trajectory import LineMotion, rotation_z
from fsdbev.data.synthetic.view import View
from fsdbev.data.synthetic.world import World, build_world
from fsdbev.structures import NUSCENES_CLASSES

SIZE = (160, 90)
TIME = 0.5


@pytest.fixture(scope="module")
def street_world() -> World:
    return build_world(SyntheticOptions(frames=3), np.random.default_rng([3, 1]))


@pytest.fixture(scope="module")
def rig():
    """CAM_FRONT and CAM_BACK_LEFT have fisheye lenses."""
    return draw_rig(SIZE, np.random.default_rng(5), fisheye=("CAM_FRONT", "CAM_BACK_LEFT"))


def view_of(sensor, world):
    ego2street = world.ego.ego2street(TIME)
    return View(ego2street @ sensor.sensor2ego, sensor.intrinsics, SIZE, sensor.lens)


def picture_of(view, world):
    noise = np.zeros((*SIZE[::-1], 3), dtype=np.float32)
    parts, actors = world.parts_at(TIME), len(world.actors)
    return render_scene(view, parts, world.street, world.light, noise, actors)


@pytest.mark.parametrize("class_name", NUSCENES_CLASSES.names)
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


@pytest.mark.parametrize("camera, hidden", [(1, 8), (2, 50)])
def test_an_image_equals_casting_every_ray_at_every_box(street_world, rig, camera, hidden):
    view = view_of(rig[camera], street_world)
    picture = picture_of(view, street_world)
    parts, actors = street_world.parts_at(TIME), len(street_world.actors)
    boxes = BoxesInSensor.of(parts, view.cam2street)
    x, y = np.broadcast_arrays(*view.rays())
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
    assert np.abs(picture.covered - covered).max() < 8 and (covered - visible).max() > hidden
    assert np.count_nonzero(owner != picture.owner) < 8
    hit = np.isfinite(depth)
    assert np.count_nonzero(np.abs(depth[hit] - picture.depth[hit]) > 0.02) < 8


def test_rays_of_a_fisheye_camera_meet_its_pixels(street_world, rig):
    fisheye = [sensor.channel for sensor in rig if sensor.lens is not None]
    assert fisheye == ["CAM_FRONT", "CAM_BACK_LEFT"]
    view = view_of(rig[1], street_world)
    x, y = view.rays()
    assert x.shape == y.shape == SIZE[::-1]
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 1, 3).astype(float)
    coefficients, zero = np.array(view.lens.coefficients), np.zeros(3)
    pixels, _ = cv2.fisheye.projectPoints(rays, zero, zero, view.intrinsics, coefficients)
    centres = np.stack(np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1])), axis=-1) + 0.5
    np.testing.assert_allclose(pixels.reshape(centres.shape), centres, atol=1e-3)
    row = rays[SIZE[0] * (SIZE[1] // 2) :][: SIZE[0], 0]
    angle = np.degrees(np.arctan2(row[:, 0], 1))
    assert 130 < angle[-1] - angle[0] < 140


def test_a_rectified_fisheye_image_is_that_of_a_pinhole_camera(street_world, rig):
    fisheye = view_of(rig[1], street_world)
    intrinsics = rectified_intrinsics(fisheye.lens, SIZE, balance=0.5)
    pinhole = View(fisheye.cam2street, intrinsics, SIZE)
    rectified = rectify(picture_of(fisheye, street_world).image, fisheye.lens, intrinsics)
    expected = picture_of(pinhole, street_world).image
    shown = rectified.any(axis=-1)
    difference = np.abs(rectified.astype(int) - expected).mean(axis=-1)[shown]
    # Other than at edges, which interpolation blurs, the images agree.
    assert shown.mean() > 0.8 and np.median(difference) < 2 and (difference > 30).mean() < 0.08


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
