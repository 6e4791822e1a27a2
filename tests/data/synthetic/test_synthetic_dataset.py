"""The synthetic data set, read by the nuScenes devkit."""

import json

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import (
    category_to_detection_name,
    detection_name_to_rel_attributes,
)
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from nuscenes.utils.splits import get_scenes_of_split
from PIL import Image
from pyquaternion import Quaternion

from fsdbev.data.synthetic import VERSION, SyntheticOptions
from fsdbev.data.synthetic.catalog import CATEGORIES
from fsdbev.data.synthetic.crowd import CLEARANCE
from fsdbev.data.synthetic.scene import SceneKey
from fsdbev.data.synthetic.world import build_world
from fsdbev.structures import NUSCENES_CLASSES

TRAIN = SceneKey("synth_train", 0)


@pytest.fixture(scope="module")
def nusc(synthetic_root) -> NuScenes:
    return NuScenes(VERSION, str(synthetic_root), verbose=False)


@pytest.fixture(scope="module")
def world(synthetic_root):
    """The world of the training scene, built again from the recorded options."""
    recorded = json.loads((synthetic_root / VERSION / "synthetic.json").read_text())["options"]
    options = SyntheticOptions(**recorded)
    return build_world(options, TRAIN.generator(options.seed, "world"))


def _seconds(sample: dict, nusc: NuScenes) -> float:
    """Returns the time since the scene's start, within half a jitter of the first sample."""
    scene = nusc.get("scene", sample["scene_token"])
    number = int(scene["name"].split("-")[1])
    return (sample["timestamp"] - 1_700_000_000_000_000 - number * 100_000_000) / 1e6


def test_splits_and_table_sizes(nusc):
    assert get_scenes_of_split("synth_train", nusc) == ["scene-0001"]
    assert get_scenes_of_split("synth_val", nusc) == ["scene-5001"]
    assert len(nusc.sample) == 6 and len(nusc.sample_data) == 6 * 7 == len(nusc.ego_pose)
    assert len(nusc.lidarseg) == 6 and len(nusc.category) == 32 and len(nusc.log) == 2
    tokens = [record["token"] for name in nusc.table_names for record in getattr(nusc, name)]
    shared = len(nusc.ego_pose) + len(nusc.lidarseg)  # these have the token of their sample_data
    assert len(set(tokens)) == len(tokens) - shared


def test_sensors_times_and_poses(nusc):
    sample = nusc.sample[1]
    assert len(sample["data"]) == 7
    stamps, poses = {}, {}
    for channel, token in sample["data"].items():
        record = nusc.get("sample_data", token)
        calibration = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
        stamps[channel] = record["timestamp"]
        poses[channel] = nusc.get("ego_pose", record["ego_pose_token"])["translation"]
        if channel != "LIDAR_TOP":
            with Image.open(nusc.get_sample_data_path(token)) as image:
                assert image.size == (160, 90) == (record["width"], record["height"])
            focal = 809.2 if channel == "CAM_BACK" else 1266.0
            assert calibration["camera_intrinsic"][0][0] == pytest.approx(focal * 0.1, rel=0.02)
    assert stamps["LIDAR_TOP"] == sample["timestamp"] == max(stamps.values())
    order = sorted((c for c in stamps if c != "LIDAR_TOP"), key=stamps.get)
    assert order[:3] == ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"]
    assert len(set(stamps.values())) >= 6
    assert 100 < np.linalg.norm(poses["CAM_FRONT"]) < 2000


def test_ego_poses_are_those_at_the_sensors_time(nusc, world):
    street2global = TRAIN.town.street2global(world)
    sample = nusc.sample[2]
    for token in sample["data"].values():
        pose = nusc.get("ego_pose", nusc.get("sample_data", token)["ego_pose_token"])
        time = _seconds({**sample, "timestamp": pose["timestamp"]}, nusc)
        truth = street2global @ world.ego.ego2street(time)
        np.testing.assert_allclose(pose["translation"], truth[:3, 3], atol=1e-6)
        rotation = Quaternion(pose["rotation"]).rotation_matrix
        np.testing.assert_allclose(rotation, truth[:3, :3], atol=1e-6)


def test_lidar_points_of_boxes_and_labels(nusc):
    for sample in nusc.sample:
        token = sample["data"]["LIDAR_TOP"]
        path, boxes, _ = nusc.get_sample_data(token)
        points = LidarPointCloud.from_file(path).points
        labels = np.fromfile(f"{nusc.dataroot}/{nusc.get('lidarseg', token)['filename']}", np.uint8)
        assert len(labels) == points.shape[1] > 5000
        assert {CATEGORIES[i] for i in labels} > {"flat.driveable_surface", "static.manmade"}
        for box in boxes:
            inside = points_in_box(box, points[:3])
            record = nusc.get("sample_annotation", box.token)
            assert np.count_nonzero(inside) == record["num_lidar_pts"]
            assert {nusc.lidarseg_idx2name_mapping[i] for i in labels[inside]} <= {box.name}


def test_annotations_follow_the_world(nusc, world):
    street2global = TRAIN.town.street2global(world)
    samples = [s for s in nusc.sample if nusc.get("scene", s["scene_token"])["name"] == TRAIN.name]
    moving = 0
    for sample in samples:
        time = _seconds(sample, nusc)
        poses = world.poses_at(time)
        for token in sample["anns"]:
            record = nusc.get("sample_annotation", token)
            position = np.linalg.solve(street2global, (*record["translation"], 1.0))[:3]
            index = int(np.argmin(np.hypot(*(poses[:, :2] - position[:2]).T)))
            actor = world.actors[index]
            np.testing.assert_allclose(position[:2], poses[index, :2], atol=1e-6)
            assert position[2] - record["size"][2] / 2 == pytest.approx(CLEARANCE)
            assert record["size"] == [actor.size[1], actor.size[0], actor.size[2]]
            assert record["category_name"] == actor.category
            velocity = nusc.box_velocity(token)
            if np.isnan(velocity).any():
                continue
            # The devkit's velocity is the mean between the previous and the next annotation.
            around = [nusc.get("sample_annotation", record[k] or token) for k in ("prev", "next")]
            times = [_seconds(nusc.get("sample", a["sample_token"]), nusc) for a in around]
            speed = float(np.mean([actor.motion.speed_at(t) for t in times]))
            assert np.hypot(*velocity[:2]) == pytest.approx(speed, abs=0.1)
            heading = Quaternion(record["rotation"]).rotation_matrix[:2, 0]
            assert velocity[:2] @ heading == pytest.approx(speed, abs=0.1)
            moving += speed > 0.5
    assert moving > 10


def test_attributes_and_visibility(nusc):
    names = {record["token"]: record["name"] for record in nusc.attribute}
    seen = set()
    for record in nusc.sample_annotation:
        class_name = category_to_detection_name(record["category_name"])
        allowed = detection_name_to_rel_attributes(class_name)
        given = [names[token] for token in record["attribute_tokens"]]
        assert len(given) == (1 if allowed else 0) and set(given) <= set(allowed)
        assert record["visibility_token"] in ("1", "2", "3", "4") and record["num_radar_pts"] == 0
        velocity = nusc.box_velocity(record["token"])[:2]
        if given and given[0].endswith(".moving") and np.isfinite(velocity).all():
            assert np.hypot(*velocity) > 0.1
        seen.add(class_name)
    assert seen == set(NUSCENES_CLASSES.names)


def test_the_map_shows_the_road_under_the_ego_vehicle(nusc):
    assert len(nusc.map) == 2
    for record in nusc.map:
        for log in record["log_tokens"]:
            assert nusc.get("log", log)["location"] in record["filename"]
    record = nusc.sample[0]
    pose = nusc.get("ego_pose", record["data"]["CAM_FRONT"])["translation"]
    mask = nusc.map[0]["mask"]
    assert mask.is_on_mask(np.array(pose[:1]), np.array(pose[1:2])).all()
    assert not mask.is_on_mask(np.array([5.0]), np.array([5.0])).any()
