"""The synthetic world's geometry, its pictures and its lidar against slow or closed-form truth."""

import numpy as np
import pytest
from shapely import Point, Polygon

from fsdbev.data.synthetic.catalog import visibility_token
from fsdbev.data.synthetic.crowd import Crowd
from fsdbev.data.synthetic.lidar import BEAM_ELEVATIONS, MAX_RANGE, scan
from fsdbev.data.synthetic.options import SyntheticOptions
from fsdbev.data.synthetic.parts import MARGIN, Parts
from fsdbev.data.synthetic.raycast import BoxesInSensor, hit_box
from fsdbev.data.synthetic.render import View, render
from fsdbev.data.synthetic.rig import draw_rig
from fsdbev.data.synthetic.street import Street
from fsdbev.data.synthetic.trajectory import EgoTrajectory, LaneMotion, LineMotion, Road, rotation_z
from fsdbev.data.synthetic.world import Light, World, build_world
from fsdbev.structures import CLASS_NAMES

SIZE = (160, 90)
INTRINSICS = np.array([[126.6, 0.0, 80.3], [0.0, 126.6, 45.2], [0.0, 0.0, 1.0]])
TIME = 0.5


def _looking_ahead(height: float = 1.5) -> np.ndarray:
    cam2street = np.eye(4)
    cam2street[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    cam2street[2, 3] = height
    return cam2street


def _world(*objects: tuple[str, LineMotion]) -> World:
    rng = np.random.default_rng(0)
    crowd = Crowd(np.zeros(1), rng)
    for class_name, motion in objects:
        assert crowd.add(class_name, motion)
    ones = np.ones(3)
    light = Light(np.array((0.0, 0.6, 0.8)), 0.6, 1.0, 0.5 * ones, ones)
    street = Street(Road(0.0), None, np.zeros((2, 2), dtype=np.float32))
    nothing = crowd.actors[0].shape[np.zeros(0, dtype=int)]
    return World(street, None, crowd.actors, nothing, light, (0.0, 50.0))


def _picture(world: World, view: View, time: float = 0.0):
    noise = np.zeros((view.size[1], view.size[0], 3), dtype=np.float32)
    parts = world.parts_at(time)
    return render(view, parts, world.street, world.light, noise, len(world.actors))


@pytest.fixture(scope="module")
def street_world() -> World:
    return build_world(SyntheticOptions(frames=3), np.random.default_rng([3, 1]))


@pytest.fixture(scope="module")
def rig():
    return draw_rig(SIZE, np.random.default_rng(5))


@pytest.mark.parametrize("curvature", [0.0, 0.011, -0.008])
def test_road_coordinates_invert(curvature):
    road = Road(curvature)
    s, lateral = np.meshgrid(np.linspace(-60, 120, 7), np.linspace(-30, 30, 5))
    x, y, heading = road.pose(s, lateral)
    back_s, back_l = road.coordinates(x, y)
    np.testing.assert_allclose(back_s, s, atol=1e-9)
    np.testing.assert_allclose(back_l, lateral, atol=1e-9)
    ahead = np.stack(road.pose(s + 1e-5, lateral)[:2]) - np.stack((x, y))
    np.testing.assert_allclose(np.arctan2(ahead[1], ahead[0]), heading, atol=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_speed_and_heading_are_those_of_the_motion(reverse):
    speed = -4.0 if reverse else 4.0
    motion = LaneMotion(Road(0.01), 5.0, 6.0, speed, 0.3, reverse=reverse)
    before, after = (np.stack(motion.pose(1.0 + d)) for d in (-1e-4, 1e-4))
    velocity = (after - before)[:2] / 2e-4
    assert np.hypot(*velocity) == pytest.approx(motion.speed_at(1.0), rel=1e-6)
    heading = motion.pose(1.0)[2]
    np.testing.assert_allclose(
        velocity / np.hypot(*velocity), (np.cos(heading), np.sin(heading)), atol=1e-4
    )


def test_the_ego_vehicle_heads_where_it_goes():
    ego = EgoTrajectory(Road(-0.01), 3.0, 0.5, -2.0, 0.3, 30.0, 1.0, 0.003)
    step = np.stack(ego.pose(2.0001)) - np.stack(ego.pose(1.9999))
    assert np.arctan2(step[1], step[0]) == pytest.approx(float(ego.pose(2.0)[2]), abs=1e-3)
    pose = ego.ego2street(2.0)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)


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


def test_every_class_has_a_place(street_world):
    names = [actor.class_name for actor in street_world.actors]
    assert set(names) == set(CLASS_NAMES)


def test_centre_of_a_free_object_shows_it():
    spots = [LineMotion(9.0, y, 0.4) for y in (-4.0, -2.0, 0.0, 2.0, 4.0)]
    world = _world(*(("pedestrian", spot) for spot in spots))
    view = View(_looking_ahead(), INTRINSICS, SIZE)
    picture = _picture(world, view)
    for index, actor in enumerate(world.actors):
        x, y, _ = world.poses_at(0.0)[index]
        u = 80.3 + 126.6 * -y / x
        v = 45.2 + 126.6 * (1.5 - actor.size[2] * 0.6) / x
        assert picture.owner[int(v), int(u)] == index
        assert picture.depth[int(v), int(u)] == pytest.approx(x, abs=0.5)
        assert picture.visible[index] == picture.covered[index] > 30


def test_the_nearer_object_hides_the_farther_one():
    world = _world(
        ("pedestrian", LineMotion(20.0, 0.0, 0.0)), ("bus", LineMotion(10.0, 0.0, np.pi / 2))
    )
    picture = _picture(world, View(_looking_ahead(), INTRINSICS, SIZE))
    assert picture.covered[0] > 20 and picture.visible[0] == 0
    assert picture.visible[1] == picture.covered[1]
    assert np.count_nonzero(picture.owner == 1) == picture.visible[1]


def test_visibility_levels_are_those_of_nuscenes():
    levels = [visibility_token(v) for v in (0.0, 0.39, 0.4, 0.59, 0.6, 0.79, 0.8, 1.0)]
    assert levels == list("11223344")


def test_a_picture_equals_casting_every_ray_at_every_box(street_world, rig):
    sensor = rig[2]
    ego2street = street_world.ego.ego2street(TIME)
    view = View(ego2street @ sensor.sensor2ego, sensor.intrinsics, SIZE)
    picture = _picture(street_world, view, TIME)
    parts = street_world.parts_at(TIME)
    boxes = BoxesInSensor.of(parts, view.cam2street)
    x, y = np.meshgrid(*view.rays())
    rays = np.stack([x, y, np.ones_like(x)])
    depth = np.full(x.shape, np.inf, dtype=np.float32)
    owner = np.full(x.shape, -1)
    for index in range(len(parts)):
        direction = np.einsum("ij,jhw->ihw", boxes.sensor2box[index], rays)
        hit = hit_box(boxes.origin[index], boxes.half[index], direction)
        owner[hit < depth] = parts.owner[index]
        depth = np.minimum(depth, hit)
    assert np.count_nonzero(owner >= 0) > 500
    assert np.count_nonzero(owner != picture.owner) < 8
    hit = np.isfinite(depth)
    assert np.count_nonzero(np.abs(depth[hit] - picture.depth[hit]) > 0.02) < 8


def test_camera_and_lidar_see_the_same_world(street_world, rig):
    ego2street = street_world.ego.ego2street(TIME)
    lidar2street = ego2street @ rig[-1].sensor2ego
    sweep = scan(
        street_world.parts_at(TIME),
        street_world.street,
        lidar2street,
        1085,
        np.random.default_rng(0),
    )
    points = sweep.points[:, :3] @ lidar2street[:3, :3].T + lidar2street[:3, 3]
    agree = total = 0
    for sensor in rig[:-1]:
        cam2street = ego2street @ sensor.sensor2ego
        picture = _picture(street_world, View(cam2street, sensor.intrinsics, SIZE), TIME)
        in_camera = (points - cam2street[:3, 3]) @ cam2street[:3, :3]
        pixel = in_camera[:, :2] / in_camera[:, 2:] @ sensor.intrinsics[:2, :2].T
        pixel = pixel + sensor.intrinsics[:2, 2]
        inside = (in_camera[:, 2] > 1) & (pixel > 0).all(axis=1) & (pixel < SIZE).all(axis=1)
        column, row = pixel[inside].astype(int).T
        same = picture.owner[row, column] == sweep.owner[inside]
        near = np.abs(picture.depth[row, column] / in_camera[inside, 2] - 1) < 0.05
        agree += np.count_nonzero(same & near)
        total += len(same)
    assert total > 5000 and agree > 0.93 * total


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


def test_ground_points_have_the_streets_labels(street_world, rig):
    lidar2street = street_world.ego.ego2street(TIME) @ rig[-1].sensor2ego
    empty = street_world.scenery[np.zeros(0, dtype=int)]
    sweep = scan(empty, street_world.street, lidar2street, 120, np.random.default_rng(0))
    height = sweep.points[:, :3] @ lidar2street[2, :3] + lidar2street[2, 3]
    assert np.abs(height).max() < 0.01
    assert set(sweep.labels) == {24, 26, 27} and (sweep.owner == -1).all()


def test_parts_keep_their_size_and_place_when_moved():
    world = _world(("truck", LineMotion(0.0, 0.0, 0.0)))
    shape = world.actors[0].shape
    moved = Parts.concatenate([shape, shape]).moved(rotation_z(0.3), np.array((1.0, 2.0, 3.0)))
    expected = shape.corners() @ rotation_z(0.3).T + (1.0, 2.0, 3.0)
    np.testing.assert_allclose(moved.corners()[len(shape) :], expected, atol=1e-12)
