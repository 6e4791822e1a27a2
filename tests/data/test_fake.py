"""Fake samples: format of the mapper, frames of a drive, cameras, labels."""

from itertools import islice

import numpy as np
import pytest
import torch

from fsdbev.d2.structures import Instances
from fsdbev.data.fake import camera_ring, fake_drive, fake_samples
from fsdbev.structures import BEVGrid, Cameras, DepthBins, invert, transform_points

SIZES = {"num_frames": 2, "num_cameras": 6, "image_size": (64, 176)}


def equal(a, b):
    if isinstance(a, Instances):
        same_boxes = torch.equal(a.gt_boxes_3d.tensor, b.gt_boxes_3d.tensor)
        return same_boxes and torch.equal(a.gt_classes, b.gt_classes)
    return torch.equal(a, b) if torch.is_tensor(a) else a == b


@pytest.mark.parametrize("training", [False, True])
def test_format_of_the_mapper(synthetic, mapper, training):
    real = mapper(training=training)(synthetic, 1, np.random.default_rng(0))
    (fake,) = fake_samples(1, **SIZES, training=training)
    assert set(fake) == set(real)
    for key, value in real.items():
        assert type(fake[key]) is type(value), key
        if torch.is_tensor(value):
            assert (fake[key].shape, fake[key].dtype) == (value.shape, value.dtype), key
    if training:
        fields, expected = (s["instances"].get_fields() for s in (fake, real))
        assert set(fields) == set(expected)
        assert fake["instances"].image_size == real["instances"].image_size
        assert fields["gt_boxes_3d"].tensor.dtype == expected["gt_boxes_3d"].tensor.dtype
        assert fields["gt_classes"].dtype == expected["gt_classes"].dtype


def test_samples_depend_on_the_seed_only():
    a, b = (fake_samples(2, **SIZES, training=True) for _ in range(2))
    assert all(equal(s[key], t[key]) for s, t in zip(a, b, strict=True) for key in s)
    (other,) = fake_samples(1, **SIZES, seed=1)
    assert not torch.equal(a[0]["images"], other["images"])
    assert a[0]["scene_token"] != other["scene_token"]
    assert torch.equal(a[0]["cam2ego"], other["cam2ego"])


def test_images_are_smooth_and_full_of_contrast():
    images = fake_samples(1, **SIZES)[0]["images"].float()
    assert images.std() > 20
    assert images.diff(dim=-1).abs().mean() < 15
    assert not torch.equal(images[0, 0], images[0, 1])


def test_samples_share_the_frames_of_a_drive():
    first, second, third, fourth = islice(
        fake_drive(num_frames=3, num_cameras=2, image_size=(32, 64), training=True), 4
    )
    assert fourth["frame_tokens"] == [s["sample_token"] for s in (fourth, third, second)]
    assert first["frame_tokens"][0] == first["sample_token"] == third["frame_tokens"][2]
    assert len(set(first["frame_tokens"])) == 3
    assert first["scene_token"] == fourth["scene_token"]
    assert first["timestamp"] < second["timestamp"]
    for key in ("images", "ego2global", "gt_depth", "gt_foreground"):
        assert torch.equal(fourth[key][1], third[key][0])
        assert torch.equal(fourth[key][2], second[key][0])
        assert not torch.equal(fourth[key][0], fourth[key][1])


def test_cameras_face_outward_and_are_exposed_in_turn():
    (sample,) = fake_samples(1, **SIZES)
    cam2keyego = Cameras.from_samples([sample]).cam2keyego
    position, forward = cam2keyego[0, :, :2, 3], cam2keyego[0, :, :2, 2]
    assert (torch.linalg.vecdot(position, forward) > 0.5).all()
    assert (sample["cam2ego"][..., 2, 2].abs() < 1e-9).all()  # level
    torch.testing.assert_close(cam2keyego[0, 0], sample["cam2ego"][0, 0], rtol=0, atol=1e-6)
    driven = (cam2keyego[0] - sample["cam2ego"][0])[:, 0, 3]
    assert (driven.diff() > 0.01).all()
    assert (cam2keyego[1, :, 0, 3] < cam2keyego[0, :, 0, 3] - 2).all()


def test_a_ring_of_cameras():
    ring = camera_ring(4, center=(1, 2, 3), radius=0.5, first_yaw=0)
    expected = torch.tensor([[1.5, 2, 3], [1, 2.5, 3], [0.5, 2, 3], [1, 1.5, 3]]).double()
    torch.testing.assert_close(ring[:, :3, 3], expected)
    torch.testing.assert_close(ring[:, :3, 2], 2 * (expected - torch.tensor([1, 2, 3])))
    assert ring[:, 2, 1].tolist() == [-1] * 4  # down


def test_labels_are_sparse_and_of_all_classes():
    (sample,) = fake_samples(1, **SIZES, training=True)
    assert set(sample["instances"].gt_classes.tolist()) == set(range(10))
    hits = sample["gt_depth"] > 0
    assert 0.01 < hits.float().mean() < 0.03 and sample["gt_depth"].max() < 60
    assert sample["gt_foreground"].any() and hits[sample["gt_foreground"]].all()


def test_heatmaps_are_high_at_the_boxes():
    height, width = 256, 704
    (sample,) = fake_samples(
        1, num_frames=1, num_cameras=4, image_size=(height, width), training=True
    )
    boxes, classes = sample["instances"].gt_boxes_3d, sample["instances"].gt_classes
    keyego2cam = invert(Cameras.from_samples([sample]).cam2keyego[0])
    projected = transform_points(boxes.centers.double(), keyego2cam) @ sample["intrinsics"][0].mT
    depth = projected[..., 2]
    source = torch.nn.functional.pad(projected / depth[..., None], (0, 1), value=1)
    u, v = (source @ sample["image_aug"].double().mT)[..., :2].unbind(-1)
    visible = (depth > 10) & (u > 50) & (u < width - 50) & (v > 20) & (v < height - 20)
    camera, box = visible.nonzero(as_tuple=True)
    column, row = (u[visible] / 4).long(), (v[visible] / 4).long()
    assert len(box) > 15
    assert (sample["gt_heatmap"][camera, classes[box], row, column] > 0.3).all()
    other = (classes[box] + 1) % 10
    assert sample["gt_heatmap"][camera, other, row, column].mean() < 0.1


def test_labels_fit_classes_grid_and_bins():
    grid, bins = BEVGrid((0, 80), (-32, 32), cell=1.0), DepthBins(2.0, 82.0, 1.0)
    fitted = {"num_classes": 3, "grid": grid, "depth_bins": bins}
    (sample,) = fake_samples(1, **SIZES, training=True, **fitted)
    assert set(sample["instances"].gt_classes.tolist()) == {0, 1, 2}
    assert sample["gt_heatmap"].shape[1] == 3
    x, y, _ = sample["instances"].gt_boxes_3d.centers.T
    assert 0 < x.min() < 20 and 60 < x.max() < 80 and -32 < y.min() < -16 and 16 < y.max() < 32
    depth = sample["gt_depth"][sample["gt_depth"] > 0]
    assert 2 <= depth.min() < 6 and 76 < depth.max() < 82 and (bins.index(depth) >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 0}, "must be at least 1, got 0, 6 and 10"),
        ({"num_cameras": 0}, "must be at least 1, got 2, 0 and 10"),
        ({"num_classes": 0}, "must be at least 1, got 2, 6 and 0"),
        ({"image_size": (0, 64)}, "positive"),
    ],
)
def test_impossible_sizes(change, message):
    with pytest.raises(ValueError, match=message):
        fake_drive(**{**SIZES, **change})
