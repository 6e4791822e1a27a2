"""Labels of complete samples: a small world by hand, and the synthetic one with its geometry."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations, Lidar
from fsdbev.data.labels.intensification import combine_frames
from fsdbev.data.labels.labeller import LabelStatistics, PointLabeller
from fsdbev.data.labels.point_labels import PixelPoints, label_path
from fsdbev.data.labels.sweeps import sweep_points
from fsdbev.data.synthetic import VERSION, SyntheticOptions
from fsdbev.data.synthetic.scene import SceneKey
from fsdbev.data.synthetic.table_writer import token
from fsdbev.data.synthetic.world import build_world
from fsdbev.structures import NUSCENES_CLASSES

CAR, PEDESTRIAN = 0, 8
#: Depth of the near face of the tests' car in each sample. The image is 100 x 50, the focal
#: length 100 pixels.
CAR_DEPTH = (27.5, 22.5, 17.5)


@pytest.fixture
def world(tmp_path, frames):
    """Writes an index of three samples: world(attribute of the car).

    Only the sweep of the middle sample has a point of the car, in the middle of its back. Next to
    it are a pedestrian without points and one with low visibility. Every sweep has a point on the
    ground; the last sample has no sweep.
    """

    def make(attribute="vehicle.parked") -> FrameIndex:
        rows = []
        for row, (frame, _) in enumerate(frames(3, ((100, 50),))):
            ahead = 30 - 5 * row
            annotations = Annotations.from_boxes(
                [[ahead, 0, 1.5, 4, 2, 2, 0, 0, 0], [ahead, 5, 1, 1, 1, 2, 0, 0, 0]]
                + [[ahead, -5, 1, 1, 1, 2, 0, 0, 0]],
                [CAR, PEDESTRIAN, PEDESTRIAN],
                attributes=(attribute, "pedestrian.moving", "pedestrian.moving"),
                visibility=np.array([4, 3, 2], np.int8),
                num_lidar_points=np.array([row == 1, 0, 0], np.int32),
            )
            points = np.zeros((1 + (row == 1), 5), np.float32)
            points[0, :3] = [15, 3, 0]
            points[1:, :3] = [23, 0, 1.5]
            points.tofile(tmp_path / f"{row}.bin")
            lidar = Lidar(f"{row}.bin", 0, np.eye(4), frame.key_ego2global)
            rows.append((replace(frame, lidar=lidar if row < 2 else None), annotations))
        write_index(tmp_path / "world.arrow", rows, NUSCENES_CLASSES)
        return FrameIndex(tmp_path / "world.arrow")

    return make


def of_class(points: PixelPoints, class_id: int) -> list:
    mask = points.class_ids == class_id
    return np.stack([points.u, points.v, points.depth], axis=1)[mask].tolist()


def test_a_parked_cars_point_is_added_to_both_neighbours(world, tmp_path):
    labeller = PointLabeller(world(), tmp_path)
    for row, has_point in enumerate((False, True, False)):
        (camera,), _ = labeller(row)
        point = [[50, 25, CAR_DEPTH[row]]]  # straight ahead of the camera, at its height
        assert of_class(camera.sweep, CAR) == (point if has_point else [])
        assert of_class(camera.combined, CAR) == ([] if has_point else point)
        assert of_class(camera.pseudo, CAR) == []
        assert of_class(camera.pseudo_uncombined, CAR) == ([] if has_point else point)
        assert len(camera.sweep) == (1, 2, 0)[row]  # the last has no sweep
        assert of_class(camera.sweep, -1) == of_class(camera.select(), -1)


def test_a_moving_cars_points_are_not_added_to_neighbours(world, tmp_path):
    """The labeller first labels a sample with combined points, which must not be reused."""
    parked, moving = PointLabeller(world(), tmp_path), world("vehicle.moving")
    assert len(parked(0)[0][0].combined) == 1
    parked.index = moving
    (camera,), _ = parked(0)
    assert len(camera.combined) == 0
    assert of_class(camera.pseudo, CAR) == [[50, 25, CAR_DEPTH[0]]]
    assert of_class(camera.pseudo_uncombined, CAR) == []


def test_only_the_visible_pedestrian_gets_a_pseudo_point(world, tmp_path):
    """Its box is 4.5 to 5.5 m to the left, 0 to 2 m high; its near face 1.5 m behind the car's."""
    labeller = PointLabeller(world(), tmp_path)
    for row in range(3):
        (camera,), _ = labeller(row)
        ((u, v, depth),) = of_class(camera.pseudo, PEDESTRIAN)
        near, far = CAR_DEPTH[row] + 1.5, CAR_DEPTH[row] + 2.5
        edges = 50 - 100 * np.array([5.5 / near, 4.5 / far])
        assert depth == near and u == pytest.approx(edges.mean(), abs=1e-3)
        assert v == pytest.approx(25 + 100 * (1.5 - 0.5) / near / 2, abs=1e-3)
        assert of_class(camera.pseudo_uncombined, PEDESTRIAN) == []
        assert of_class(camera.sweep, PEDESTRIAN) == of_class(camera.combined, PEDESTRIAN) == []


def test_statistics_of_a_sample_and_their_sum(world, tmp_path):
    labeller = PointLabeller(world(), tmp_path)
    statistics = [labeller(row)[1] for row in range(3)]
    first = statistics[0]
    assert (first.points[:, CAR].tolist(), first.points[:, PEDESTRIAN].tolist()) == (
        [0, 1, 0, 1],
        [0, 0, 1, 0],
    )
    assert first.points[:, -1].tolist() == [1, 0, 0, 0]  # background
    assert first.objects[[CAR, PEDESTRIAN]].tolist() == [1, 2]
    assert first.without_points[:, CAR].tolist() == [1, 0, 0]
    assert first.without_points[:, PEDESTRIAN].tolist() == [2, 2, 1]
    total = sum(statistics, LabelStatistics.zero(10))
    assert total.samples == 3 and total.points.sum(axis=1).tolist() == [3, 2, 3, 2]
    assert total.objects.sum() == 9 and total.without_points.sum(axis=1).tolist() == [8, 6, 3]
    assert total.summary() == (
        "9 objects in 3 samples; without a point: 8 after sweep, 6 after frame combination, "
        "3 after pseudo points"
    )
    read = LabelStatistics.from_json(total.to_json(), 10)
    assert read.samples == 3
    for name in ("points", "objects", "without_points"):
        np.testing.assert_array_equal(getattr(read, name), getattr(total, name))


def test_a_sweep_is_read_once(world, tmp_path, monkeypatch):
    read = []

    def counting(frame, *arguments):
        read.append(frame.sample_token)
        return sweep_points(frame, *arguments)

    monkeypatch.setattr("fsdbev.data.labels.labeller.sweep_points", counting)
    labeller = PointLabeller(world(), tmp_path)
    for row in range(3):
        labeller(row)
    assert sorted(read) == ["sample0", "sample1", "sample2"]


#: Rows of the neighbours of the synthetic scene's samples.
NEIGHBOURS = ((1,), (0, 2), (1,))


def in_box(annotations, which, positions, key_ego2global):
    """Transforms global positions to the frame of an object's box, metres from its centre."""
    key_points = np.linalg.inv(key_ego2global) @ np.vstack([positions.T, np.ones(len(positions))])
    return (key_points[:3].T - annotations.center[which]) @ annotations.rotation[which]


def surface_distance(points, parts):
    """Returns (P,) distances of points in an actor's frame to the nearest surface of its parts."""
    offset = points[:, None] - parts.center
    local = np.abs(np.einsum("pni,nij->pnj", offset, parts.rotation)) - parts.half
    outside = np.linalg.norm(np.maximum(local, 0), axis=-1)
    return np.abs(outside + np.minimum(local.max(axis=-1), 0)).min(axis=1)


def test_combined_points_are_on_static_objects_only(synthetic):
    """Compared with the shapes of the generated world."""
    options = json.loads((synthetic.dataroot / VERSION / "synthetic.json").read_text())["options"]
    options, key = SyntheticOptions(**options), SceneKey("synth_train", 0)
    actors = build_world(options, key.generator(options.seed, "world")).actors
    instances = [token(VERSION, options.seed, key.name, "instance", i) for i in range(len(actors))]
    lookup = json.loads(synthetic.index.info["lidarseg_classes"])
    distances, on_moving = [], 0
    for row in range(3):
        frame, annotations = synthetic.index[row], synthetic.index.annotations(row)
        neighbours = [
            sweep_points(
                synthetic.index[n], synthetic.index.annotations(n), synthetic.dataroot, lookup
            )
            for n in NEIGHBOURS[row]
        ]
        found = combine_frames(frame, annotations, neighbours, synthetic.classes)
        expected = 0
        for which, attribute in enumerate(annotations.attributes):
            half = annotations.size[which] / 2
            local = in_box(annotations, which, found.positions, frame.key_ego2global)
            inside = (np.abs(local) <= half).all(axis=1)
            if attribute not in ("", *synthetic.classes.static_attributes):
                on_moving += inside.sum()
                continue
            for points in neighbours:
                near = in_box(annotations, which, points.positions, frame.key_ego2global)
                expected += ((np.abs(near) <= half).all(axis=1) & (points.class_ids >= 0)).sum()
            actor = actors[instances.index(annotations.instance_tokens[which])]
            distances.append(surface_distance(local[inside] + [0, 0, half[2]], actor.shape))
        assert len(found) == expected > 100  # boxes of this world don't overlap
    assert on_moving == 0
    assert np.median(np.concatenate(distances)) < 0.01


def test_prepared_labels_equal_computed_ones(synthetic):
    labeller = PointLabeller(synthetic.index, synthetic.dataroot)
    combined = 0
    for row in range(len(synthetic.index)):
        frame = synthetic.index[row]
        assert label_path(synthetic.label_dir, frame.sample_token).is_file()
        labels, statistics = labeller(row)
        for found, expected in zip(synthetic.point_labels(frame), labels, strict=True):
            for a, b in zip(found.groups, expected.groups, strict=True):
                np.testing.assert_array_equal(a.class_ids, b.class_ids)
                np.testing.assert_allclose(a.u, b.u, atol=0.01)
        combined += statistics.points[1].sum()
    assert combined > 100
