"""A synthetic set at 10 Hz with fisheye cameras: times, velocities, attributes, lenses."""

import numpy as np
import pytest
from nuscenes import NuScenes

from fsdbev.data.synthetic import VERSION, SyntheticOptions, generate
from fsdbev.data.synthetic.catalog import MOVING_SPEED
from fsdbev.data.synthetic.scene import SceneKey
from fsdbev.data.synthetic.world import build_world

OPTIONS = SyntheticOptions(
    scenes_train=1,
    scenes_val=0,
    frames=8,
    rate=10.0,
    image_size=(96, 54),
    fisheye=("CAM_FRONT", "CAM_BACK"),
    lidar_azimuths=60,
)


@pytest.fixture(scope="module")
def nusc(tmp_path_factory):
    root = tmp_path_factory.mktemp("fast") / "set"
    generate(str(root), OPTIONS)
    return NuScenes(VERSION, str(root), verbose=False)


def test_frames_are_a_tenth_of_a_second_apart(nusc):
    samples = nusc.sample
    assert [s["next"] for s in samples] == [*(s["token"] for s in samples[1:]), ""]
    stamps = [sample["timestamp"] for sample in samples]
    assert len(stamps) == 8 and np.abs(np.diff(stamps) - 100_000).max() < 8100
    for sample, previous in zip(samples, [0, *stamps], strict=False):
        for token in sample["data"].values():
            record = nusc.get("sample_data", token)
            assert max(previous, sample["timestamp"] - 43_700) < record["timestamp"]
            assert record["timestamp"] <= sample["timestamp"]


def test_velocities_are_in_metres_per_second(nusc):
    world = build_world(OPTIONS, SceneKey("synth_train", 0).generator(OPTIONS.seed, "world"))
    sizes = {tuple(actor.size): actor for actor in world.actors}
    names = {record["token"]: record["name"] for record in nusc.attribute}
    start, moving = nusc.sample[0]["timestamp"], 0
    for record in nusc.sample_annotation:
        width, length, height = record["size"]
        actor = sizes[length, width, height]
        time = (nusc.get("sample", record["sample_token"])["timestamp"] - start) / 1e6
        speed, velocity = actor.motion.speed_at(time), nusc.box_velocity(record["token"])[:2]
        # The devkit's velocity is a difference over one or two frames of an accelerated motion.
        if np.isfinite(velocity).all():
            assert np.hypot(*velocity) == pytest.approx(speed, abs=0.3)
            moving += speed > 1
        for token in record["attribute_tokens"]:
            if names[token].endswith((".moving", ".parked", ".stopped", ".standing")):
                assert names[token].endswith(".moving") == (speed > MOVING_SPEED)
    assert moving > 20


def test_ego_moves_as_fast_as_in_a_set_of_another_rate():
    """At most 4 m/s at the start and the end of a scene; brief scenes have no extreme brakes."""
    for seed in range(8):
        ego = build_world(OPTIONS, np.random.default_rng(seed)).ego
        assert abs(ego.speed) <= 4 and abs(ego.speed + 0.7 * ego.acceleration) <= 4.01
        brief = SyntheticOptions(frames=2, rate=20)
        assert abs(build_world(brief, np.random.default_rng(seed)).ego.acceleration) <= 8


def test_only_fisheye_cameras_have_a_lens(nusc):
    keys = {"token", "sensor_token", "translation", "rotation", "camera_intrinsic"}
    for record in nusc.calibrated_sensor:
        channel = nusc.get("sensor", record["sensor_token"])["channel"]
        has_lens = channel in OPTIONS.fisheye
        assert (record.get("camera_lens") == "fisheye") == has_lens
        assert len(record.get("camera_distortion", [])) == 4 * has_lens
        assert set(record) == keys | ({"camera_lens", "camera_distortion"} if has_lens else set())
        if has_lens:
            assert record["camera_intrinsic"][0][0] == pytest.approx(640 * 0.06, rel=0.006)
