"""Kinds of synthetic worlds, and the statistics that tools/dataset_statistics.py prints of them."""

import json
from dataclasses import replace

import dataset_statistics
import numpy as np
import pytest

from fsdbev.data.synthetic import SyntheticOptions, generate
from fsdbev.data.synthetic.lidar import scan
from fsdbev.data.synthetic.scene import SceneKey
from fsdbev.data.synthetic.sensor_rig import draw_rig
from fsdbev.data.synthetic.world import build_world

VERSION = "v1.0-synth"
SPARSE = SyntheticOptions(
    scenes_train=2, scenes_val=0, frames=3, image_size=(160, 90), world="nuscenes"
)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """Data root of a set whose world has nuScenes' statistics."""
    root = tmp_path_factory.mktemp("sparse") / "data"
    generate(str(root), SPARSE)
    return root


def annotations(root):
    return json.loads((root / VERSION / "sample_annotation.json").read_text())


def test_objects_reach_farther():
    key = SceneKey("synth_train", 0)
    for name, low, high in (("street", 20, 45), ("nuscenes", 50, 75)):
        options = replace(SPARSE, world=name)
        world = build_world(options, key.generator(0, "world"))
        x = world.poses_at(0.0)[:, 0]
        assert low < x.max() < high and low < -x.min() < high
        assert (world.reflectance is None) == (name == "street")
    assert len(world.reflectance) == len(world.actors)


def test_returns_fall_with_reflectance_and_distance():
    options = replace(SPARSE, density=2.0)
    world = build_world(options, SceneKey("synth_train", 1).generator(0, "world"))
    lidar = draw_rig((160, 90), np.random.default_rng(0))[-1]
    lidar2street = world.ego.ego2street(0.0) @ lidar.sensor2ego
    parts = world.parts_at(0.0)

    def counts(reflectance):
        if reflectance is not None:
            reflectance = np.full(len(world.actors), reflectance)
        rng = np.random.default_rng(0)
        owner = scan(parts, world.street, lidar2street, 1085, rng, reflectance).owner
        return np.bincount(owner + 1, minlength=len(world.actors) + 1)

    every, none, half = counts(None), counts(0.0), counts(0.5)
    assert not none[1:].any() and none[0] == every[0]  # ground and scenery are as before
    distance = np.hypot(*(world.poses_at(0.0)[:, :2] - lidar2street[:2, 3]).T)
    for low, high in ((0, 20), (40, 60)):
        chosen = 1 + np.flatnonzero((distance >= low) & (distance < high))
        expected = 0.5 * np.exp(-(low + high) / 2 / 60)
        assert half[chosen].sum() / every[chosen].sum() == pytest.approx(expected, rel=0.3)


def test_annotations_need_a_point_in_one_key_frame(sparse, synthetic_root):
    chains = {}
    for record in annotations(sparse):
        points = record["num_lidar_pts"] + record["num_radar_pts"]
        chains.setdefault(record["instance_token"], []).append(points)
    assert all(len(chain) == SPARSE.frames and any(chain) for chain in chains.values())
    assert any(0 in chain for chain in chains.values())
    assert any(record["num_radar_pts"] for record in annotations(sparse))
    assert not any(record["num_radar_pts"] for record in annotations(synthetic_root))


def test_statistics(sparse, run_tool, capsys):
    assert run_tool("dataset_statistics", "--data", sparse, VERSION) == 0
    printed = capsys.readouterr().out
    records = annotations(sparse)
    assert f"| objects per sample | 33.2 | {len(records) / 6:.1f} |" in printed
    empty = np.mean([r["num_lidar_pts"] + r["num_radar_pts"] == 0 for r in records])
    row = f"| objects with neither LiDAR nor radar points | 18.7% (mini) | {empty:.1%} |"
    assert row in printed
    assert "| pedestrian |" in printed
    assert run_tool("dataset_statistics", "--data", sparse, "v2") == 1
    assert "v2" in capsys.readouterr().err


def test_weighted_means_and_medians():
    found = dataset_statistics.Objects(
        samples=1,
        name=np.array(["car", "car", "car", "bus"]),
        distance=np.array([12.0, 14.0, 19.0, 25.0]),
        height=np.array([1.5, 1.5, 1.8, 3.0]),
        lidar=np.array([10, 20, 60, 7]),
        radar=np.zeros(4),
        visibility=np.full(4, 4),
    )
    cars, buses = (dataset_statistics.PUBLISHED[name][0] for name in ("car", "bus"))
    mean = dataset_statistics.weighted(found, found.lidar)
    assert mean == pytest.approx((30 * cars + 7 * buses) / (cars + buses))
    rows = dataset_statistics.class_table(found)[2:]
    assert rows[0] == "| car | 75% | 1.73 | 1.60 | 20 | - | - | - | 136 |"
    assert rows[1] == "| bus | 25% | 3.47 | 3.00 | - | - | - | - | 152 |"
