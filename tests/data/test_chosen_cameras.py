"""Part of a rig: chosen cameras, camera dropout, and the objects that are then targets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsdbev.data.build import build_train_loader, open_frames
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations
from fsdbev.data.labels.point_labels import PixelPoints, PointLabels, label_path, write_point_labels
from fsdbev.structures import NUSCENES_CLASSES, Cameras

#: Class of the object straight ahead of each camera; a cone is between the first two cameras.
CAR, BUS, PEDESTRIAN, CONE = 0, 3, 8, 9
AHEAD_OF = {"CAM_0": CAR, "CAM_1": BUS, "CAM_2": PEDESTRIAN}


def objects(*classes) -> Annotations:
    """Objects 10 m away, in the directions of the cameras of a ring of three."""
    angles = np.radians([{CAR: 0, CONE: 60, BUS: 120, PEDESTRIAN: 240}[c] for c in classes])
    boxes = np.tile([0, 0, 1, 1, 1, 1.6, 0.3, 1, 0], (len(classes), 1))
    boxes[:, :2] = 10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return Annotations.from_boxes(boxes, classes)


@pytest.fixture
def dataset(rig, tmp_path):
    """Three samples of three cameras, of which CAM_1 is the reference camera."""
    whole = rig([(64, 48)] * 3, reference=1)
    everything = objects(CAR, BUS, PEDESTRIAN, CONE)
    rows = [(frame, everything) for frame in whole.index]
    write_index(tmp_path / "rig.arrow", rows, NUSCENES_CLASSES)
    return replace(whole, index=FrameIndex(tmp_path / "rig.arrow"))


def with_cameras(dataset, *names):
    return replace(dataset, cameras=names)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_cameras_are_in_the_order_of_their_names(dataset, mapper):
    whole = mapper(training=False)(dataset, 1)
    part = mapper(training=False)(with_cameras(dataset, "CAM_2", "CAM_0"), 1)
    for key in ("images", "cam2ego", "ego2global", "intrinsics"):
        assert torch.equal(part[key], whole[key][:, [2, 0]]), key
    assert torch.equal(part["image_aug"], whole["image_aug"][[2, 0]])
    assert not torch.equal(part["images"][0, 0], part["images"][0, 1])


def test_boxes_stay_in_the_frame_of_the_reference_camera(dataset, mapper):
    """It is left out here. Poses and boxes have the bits of those of the whole rig."""
    options = {"training": False, "with_boxes": True}
    whole = mapper(**options)(dataset, 1)
    part = mapper(**options)(with_cameras(dataset, "CAM_2", "CAM_0"), 1)
    reference = dataset.index[1].ego2global[1]
    for sample in (whole, part):
        np.testing.assert_array_equal(sample["key_ego2global"], reference)
    cameras = [Cameras.from_samples([sample]).cam2keyego for sample in (whole, part)]
    assert torch.equal(cameras[1], cameras[0][:, [2, 0]])
    boxes, expected = (s["instances"].gt_boxes_3d.tensor for s in (part, whole))
    assert torch.equal(boxes, expected[[0, 2]])  # the car and the pedestrian


@pytest.mark.parametrize(
    ("cameras", "classes"),
    [
        (("CAM_1",), [BUS]),
        (("CAM_2", "CAM_0"), [CAR, PEDESTRIAN]),
        # With all cameras, objects between them are targets too, as nuScenes' metrics count them.
        (("CAM_2", "CAM_1", "CAM_0"), [CAR, BUS, PEDESTRIAN, CONE]),
    ],
)
def test_only_objects_in_a_chosen_camera_are_targets(dataset, mapper, cameras, classes):
    chosen = with_cameras(dataset, *cameras)
    assert chosen.annotations(1).class_ids.tolist() == classes
    assert mapper()(chosen, 1, rng())["instances"].gt_classes.tolist() == classes
    sample = mapper(training=False, with_boxes=True, with_labels=True)(chosen, 1)
    assert sample["instances"].gt_classes.tolist() == classes
    drawn = sample["gt_heatmap"].flatten(2).any(dim=2).nonzero().tolist()
    assert drawn == [[i, AHEAD_OF[name]] for i, name in enumerate(cameras)]


def test_point_labels_are_those_of_the_cameras_names(dataset, tmp_path):
    """The label files are of the whole rig."""

    def at(depth):
        point = PixelPoints(*(np.array([x], np.float32) for x in (5, 5, depth, 0)))
        return replace(PointLabels.empty(), sweep=point)

    frame, texts = dataset.index[0], {"source": "", "statistics": ""}
    path = label_path(tmp_path, frame.sample_token)
    labels = [at(depth) for depth in (10, 11, 12)]
    write_point_labels(path, labels, frame, classes=NUSCENES_CLASSES, **texts)
    chosen = replace(with_cameras(dataset, "CAM_2", "CAM_0"), label_dir=tmp_path)
    found = chosen.point_labels(chosen.frame(0))
    assert [camera.sweep.depth.tolist() for camera in found] == [[12], [10]]


def test_class_balanced_sampling_counts_visible_objects(dataset, mapper, tmp_path):
    """Only the middle sample has a bus in the chosen camera."""
    rows = [(f, objects(CAR, *[BUS] * (row == 1))) for row, f in enumerate(dataset.index)]
    write_index(tmp_path / "rig.arrow", rows, NUSCENES_CLASSES)
    dataset = replace(dataset, index=FrameIndex(tmp_path / "rig.arrow"))
    assert dataset.classes_with_points().sum(axis=0)[[CAR, BUS]].tolist() == [3, 1]
    chosen = with_cameras(dataset, "CAM_1")
    present = chosen.classes_with_points()
    assert present.sum() == 1 and present[1, BUS]
    loader = build_train_loader(
        dataset=chosen, mapper=mapper(), total_batch_size=1, num_workers=0, seed=0
    )
    assert set(loader.sampler.epoch_rows(0).tolist()) == {1}


def test_the_training_loader_logs_the_cameras(dataset, mapper, tmp_path, caplog):
    where = {"index": dataset.index.path, "dataroot": tmp_path}
    opened = open_frames(name="front", **where, cameras=["CAM_1"])
    assert opened.cameras == ("CAM_1",) and opened.frame(0).channels == ("CAM_1",)
    with caplog.at_level("INFO", logger="fsdbev"):
        build_train_loader(dataset=opened, mapper=mapper(), total_batch_size=1, num_workers=0)
    assert "front: cameras CAM_1; objects without a 2D box in any of them are no" in caplog.text


def test_camera_dropout(dataset, mapper):
    """Depends on the seed only; at least one camera stays; targets are those of what stays."""
    dropping, counts = mapper(camera_dropout=0.7), []
    for seed in range(30):
        sample, same = (dropping(dataset, 1, rng(seed)) for _ in range(2))
        assert torch.equal(sample["images"], same["images"])
        assert torch.equal(sample["cam2ego"], same["cam2ego"])
        kept = [AHEAD_OF[f"CAM_{number}"] for number in kept_cameras(sample, dataset)]
        classes = sample["instances"].gt_classes.tolist()
        assert classes == ([*kept, CONE] if len(kept) == 3 else kept)
        for key in ("images", "gt_depth", "gt_foreground", "intrinsics"):
            assert sample[key].shape[1] == len(kept), key
        assert len(sample["image_aug"]) == len(sample["gt_heatmap"]) == len(kept)
        np.testing.assert_array_equal(sample["key_ego2global"], dataset.index[1].ego2global[1])
        counts.append(len(kept))
    assert set(counts) == {1, 2, 3}
    few = mapper(camera_dropout=0.999)
    assert {few(dataset, 1, rng(seed))["images"].shape[1] for seed in range(9)} == {1}


def kept_cameras(sample, dataset):
    """Returns the numbers of a sample's cameras, by their poses."""
    poses = dataset.index[1].cam2ego.tolist()
    return [poses.index(pose) for pose in sample["cam2ego"][0].tolist()]


def test_camera_dropout_of_chosen_cameras(dataset, mapper):
    chosen, dropping = with_cameras(dataset, "CAM_2", "CAM_0"), mapper(camera_dropout=0.5)
    samples = [dropping(chosen, 1, rng(seed)) for seed in range(20)]
    found = {tuple(kept_cameras(sample, dataset)) for sample in samples}
    assert found == {(2,), (0,), (2, 0)}


def test_without_camera_dropout_nothing_is_drawn(dataset, mapper):
    """The augmentation of a seed stays what it was, and evaluations keep all cameras."""
    plain, without = (mapper(**o)(dataset, 1, rng()) for o in ({}, {"camera_dropout": 0.0}))
    for key in ("images", "image_aug", "bev_aug"):
        assert torch.equal(plain[key], without[key])
    generator, same = rng(), rng()
    mapper(num_frames=1)(dataset, 1, generator)
    for size in dataset.index[1].image_sizes:
        mapper().image_aug.sample(size, same)
    mapper().bev_aug.sample(same)
    assert generator.bit_generator.state == same.bit_generator.state
    evaluation = mapper(training=False, camera_dropout=0.9)(dataset, 1)
    assert evaluation["images"].shape[1] == 3
