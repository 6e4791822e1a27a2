"""Traffic of the synthetic world: right-hand, or any direction on either side."""

import numpy as np
import pytest

from fsdbev.data.synthetic import SyntheticOptions
from fsdbev.data.synthetic.crowd import Actor, _rectangles_touch
from fsdbev.data.synthetic.scene import SceneKey
from fsdbev.data.synthetic.traffic import Traffic
from fsdbev.data.synthetic.trajectory import ArcMotion
from fsdbev.data.synthetic.world import World, build_world

TIMES = np.linspace(0.0, 2.0, 21)
VEHICLES = ("car", "truck", "bus", "trailer", "construction_vehicle")


def _worlds(traffic: str) -> list[World]:
    options = SyntheticOptions(frames=5, traffic=traffic)
    keys = [SceneKey("synth_train", index) for index in range(40)]
    return [build_world(options, key.generator(7, "world")) for key in keys]


@pytest.fixture(scope="module")
def both() -> list[World]:
    return _worlds("both")


def _kind(actor: Actor) -> str:
    if isinstance(actor.motion, ArcMotion):
        return "turning"
    if actor.ridden:
        return "riders"
    if actor.class_name not in VEHICLES:
        return "others"
    moving = actor.motion.speed_at(0.0) > 0.2
    return "driving" if moving else "waiting" if actor.on_road else "parked"


def _along(worlds: list[World], kind: str) -> dict[int, np.ndarray]:
    """Side (-1 right, 1 left) -> whether each object of the kind faces along s."""
    found: dict[int, list[bool]] = {-1: [], 1: []}
    for world in worlds:
        poses, road = world.poses_at(0.0), world.street.road
        s, lateral = road.coordinates(poses[:, 0], poses[:, 1])
        along = np.cos(poses[:, 2] - road.curvature * s) > 0
        for actor, side, value in zip(world.actors, np.sign(lateral), along):
            if _kind(actor) == kind:
                found[int(side)].append(bool(value))
    return {side: np.array(values) for side, values in found.items()}


def test_right_hand_traffic_is_the_default_and_as_it_was():
    options = SyntheticOptions(frames=5)
    assert options.traffic == "right"
    world = build_world(options, SceneKey("synth_train", 0).generator(7, "world"))
    assert len(world.actors) == 23
    np.testing.assert_allclose(
        world.poses_at(1.0).sum(axis=0), (0.992742, 42.381900, 31.579837), atol=1e-5
    )
    assert Traffic.draw("right", None).lanes == {-1.0: 1.0, 1.0: -1.0}  # draws nothing


def test_position_does_not_tell_the_direction(both):
    for kind, tolerance in (("driving", 0.2), ("riders", 0.2), ("parked", 0.1)):
        for along in _along(both, kind).values():
            assert len(along) > 30 and along.mean() == pytest.approx(0.5, abs=tolerance), kind
    sides = np.sign([float(world.ego.lateral) for world in both])
    assert abs(sides.mean()) < 0.4
    in_ego_lane = [
        np.cos(pose[2] - world.ego.pose(0.0)[2]) > 0
        for world, side in zip(both, sides)
        for actor, pose in zip(world.actors, world.poses_at(0.0))
        if _kind(actor) == "driving" and abs(actor.motion.lateral - side * 2.2) < 1
    ]
    assert np.mean(in_ego_lane) == pytest.approx(0.5, abs=0.25)


def test_some_vehicles_turn_at_the_crossing(both):
    turning = [
        (actor.motion, world)
        for world in both
        for actor in world.actors
        if _kind(actor) == "turning"
    ]
    assert len(turning) > 5
    for motion, world in turning:
        x, y, heading = motion.pose(TIMES)
        velocity = np.gradient(x, TIMES), np.gradient(y, TIMES)
        direction = np.arctan2(velocity[1], velocity[0])[1:-1]
        np.testing.assert_allclose(np.cos(direction - heading[1:-1]), 1.0, atol=1e-3)
        np.testing.assert_allclose(np.hypot(*velocity)[1:-1], motion.speed_at(0.0), rtol=1e-2)
        assert world.street.crossing is not None


def test_objects_do_not_collide(both):
    for world in both:
        poses = np.stack([np.stack(actor.motion.pose(TIMES)) for actor in world.actors])
        halves = np.array([actor.size[:2] for actor in world.actors]) / 2
        for index, (pose, half) in enumerate(zip(poses, halves)):
            others = slice(index + 1, None)
            assert not _rectangles_touch(pose, tuple(half), poses[others], halves[others]).any()
