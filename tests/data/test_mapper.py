"""The mapper: from a row to the sample dict (docs/model.md, "Inputs and outputs"), for any rig."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles.loading import PublishedSample, labels_differ, normalise
from PIL import Image

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.io.rectify import rectify
from fsdbev.data.labels.point_labels import PixelPoints, PointLabels, label_path, write_point_labels
from fsdbev.data.transforms.image_aug import ImageAugmentation
from fsdbev.structures import (
    NUSCENES_CLASSES,
    BEVGrid,
    Boxes3D,
    Cameras,
    DepthBins,
    Lens,
    transform_points,
)

H, W = 64, 176
ALWAYS = {
    "images",
    "cam2ego",
    "ego2global",
    "intrinsics",
    "image_aug",
    "bev_aug",
    "key_ego2global",
    "sample_token",
    "scene_token",
    "timestamp",
    "frame_tokens",
}
TRAINING = ALWAYS | {"gt_depth", "gt_foreground", "gt_heatmap", "instances"}


def rng(seed=0):
    return np.random.default_rng(seed)


def check_shapes(sample, frames, cameras):
    matrices = (frames, cameras, 4, 4)
    expected = {
        "images": ((frames, cameras, 3, H, W), torch.uint8),
        "cam2ego": (matrices, torch.float64),
        "ego2global": (matrices, torch.float64),
        "intrinsics": ((frames, cameras, 3, 3), torch.float64),
        "image_aug": ((cameras, 4, 4), torch.float32),
        "bev_aug": ((4, 4), torch.float32),
        "key_ego2global": ((4, 4), torch.float64),
        "gt_depth": ((frames, cameras, H, W), torch.float32),
        "gt_foreground": ((frames, cameras, H, W), torch.bool),
        "gt_heatmap": ((cameras, 10, H // 4, W // 4), torch.float32),
    }
    for key, (shape, dtype) in expected.items():
        if key in sample:
            assert (tuple(sample[key].shape), sample[key].dtype) == (shape, dtype), key


def test_training_sample(synthetic, mapper):
    sample = mapper()(synthetic, 1, rng())
    assert set(sample) == TRAINING
    check_shapes(sample, 2, 6)
    frame = synthetic.index[1]
    assert sample["sample_token"] == frame.sample_token
    assert sample["scene_token"] == frame.scene_token
    assert sample["timestamp"] == frame.timestamp
    np.testing.assert_array_equal(sample["key_ego2global"], frame.ego2global[1])  # CAM_FRONT
    np.testing.assert_array_equal(sample["ego2global"][1], synthetic.index[0].ego2global)
    instances = sample["instances"]
    assert len(instances.gt_boxes_3d) == len(instances.gt_classes) > 3
    assert isinstance(instances.gt_boxes_3d, Boxes3D)
    assert instances.gt_classes.dtype == torch.int64 and instances.image_size == (H, W)
    assert (sample["gt_depth"] > 0).sum() > 1000 and sample["gt_foreground"].any()
    assert sample["gt_heatmap"].max() > 0.5
    assert (sample["gt_depth"][sample["gt_foreground"]] > 0).all()


def test_training_sample_equals_the_published_code(synthetic, mapper, tmp_path):
    mapper = mapper()
    published = PublishedSample.prepare(synthetic, mapper, 1, 7, tmp_path)
    sample = mapper(synthetic, 1, rng(7))
    images = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in sample["images"].flatten(0, 1)]
    normalised = torch.stack([normalise(image) for image in images])
    assert torch.equal(published.images().flatten(0, 1), normalised)
    assert not labels_differ((sample["gt_depth"], sample["gt_foreground"]), published.labels())
    # OpenCV warps in steps of 1/32 pixel.
    torch.testing.assert_close(sample["gt_heatmap"], published.heatmaps(), rtol=0, atol=3e-2)


def test_evaluation_sample_has_no_ground_truth(synthetic, mapper):
    sample = mapper(training=False)(synthetic, 1)
    assert set(sample) == ALWAYS
    check_shapes(sample, 2, 6)
    assert torch.equal(sample["bev_aug"], torch.eye(4))
    assert (sample["image_aug"][:, 2, 2] == 1).all()


def test_evaluation_sample_with_boxes_and_labels(synthetic, mapper):
    """Those of training, with images that are not augmented."""
    sample = mapper(training=False, with_boxes=True, with_labels=True)(synthetic, 1)
    plain = mapper(training=False)(synthetic, 1)
    assert set(sample) == TRAINING
    assert torch.equal(sample["images"], plain["images"])
    check_shapes(sample, 2, 6)
    annotations = synthetic.index.annotations(1)
    expected = annotations.boxes[annotations.has_points]
    np.testing.assert_allclose(sample["instances"].gt_boxes_3d.tensor, expected, atol=1e-5)
    assert (sample["gt_depth"] > 0).sum() > 1000 and sample["gt_foreground"].any()


def test_samples_depend_on_the_generator_only(synthetic, mapper):
    first, same, other = (mapper()(synthetic, 1, rng(seed)) for seed in (3, 3, 4))
    tensors = {key for key, value in first.items() if torch.is_tensor(value)}
    assert tensors >= {"images", "image_aug", "bev_aug", "gt_depth", "gt_heatmap"}
    for key in tensors:
        assert torch.equal(first[key], same[key]), key
    assert not torch.equal(first["image_aug"], other["image_aug"])
    assert not torch.equal(first["bev_aug"], other["bev_aug"])
    with pytest.raises(ValueError, match="random generator"):
        mapper()(synthetic, 1)


def test_the_first_sample_of_a_scene_replaces_its_previous_frame(synthetic, mapper):
    sample = mapper()(synthetic, 0, rng())
    for key in ("images", "gt_depth", "gt_foreground", "ego2global"):
        assert torch.equal(sample[key][0], sample[key][1]), key


@pytest.mark.parametrize(("frames", "spacing"), [(1, 1), (3, 1), (2, 2)])
def test_number_and_spacing_of_frames(synthetic, mapper, frames, spacing):
    sample = mapper(num_frames=frames, frame_spacing=spacing)(synthetic, 2, rng())
    check_shapes(sample, frames, 6)
    for time in range(frames):
        expected = synthetic.index[2 - spacing * time].ego2global
        np.testing.assert_array_equal(sample["ego2global"][time], expected)
    tokens = [synthetic.index[2 - spacing * time].sample_token for time in range(frames)]
    assert sample["frame_tokens"] == tokens and tokens[0] == sample["sample_token"]
    with pytest.raises(ValueError, match="must be at least 1"):
        mapper(num_frames=0)


def test_frames_across_a_gap(rig, frames, mapper, tmp_path):
    """Five samples without the middle one. If its neighbours are linked, frames continue across the
    gap; otherwise the key frame replaces all frames before the gap."""
    rig([(64, 48)], count=5)
    rows = [rows for place, rows in enumerate(frames(5)) if place != 2]
    for cut, sources in ((False, (3, 2, 1, 0)), (True, (3, 2, 3, 3))):
        links = {0: (-1, 1), 1: (0, -1 if cut else 2), 2: (-1 if cut else 1, 3), 3: (2, -1)}
        linked = [
            (replace(frame, previous=links[row][0], next=links[row][1]), objects)
            for row, (frame, objects) in enumerate(rows)
        ]
        write_index(tmp_path / "gap.arrow", linked, NUSCENES_CLASSES)
        dataset = FrameDataset("gap", FrameIndex(tmp_path / "gap.arrow"), tmp_path)
        sample = mapper(num_frames=4)(dataset, 3, rng())
        for time, source in enumerate(sources):
            expected = dataset.index[source].ego2global
            np.testing.assert_array_equal(sample["ego2global"][time], expected)
        spaced = mapper(num_frames=2, frame_spacing=2)(dataset, 3, rng())["ego2global"][1]
        np.testing.assert_array_equal(spaced, dataset.index[sources[2]].ego2global)


def test_the_key_frame_replaces_one_beyond_a_gap(rig, frames, mapper, tmp_path):
    """Four samples, of which the last one is 61.5 s after the one before it."""
    dataset = rig([(64, 48)], count=4)
    rows = frames(4)
    rows[3] = (replace(rows[3][0], timestamp=rows[2][0].timestamp + 61_500_000), rows[3][1])
    write_index(dataset.index.path, rows, NUSCENES_CLASSES)
    dataset = replace(dataset, index=FrameIndex(dataset.index.path))
    for options, token in (({}, "sample3"), ({"max_frame_gap": np.inf}, "sample2")):
        sample = mapper(**options)(dataset, 3, rng())
        assert sample["frame_tokens"] == ["sample3", token]
        source = dataset.index[int(token[-1])]
        np.testing.assert_array_equal(sample["ego2global"][1], source.ego2global)
    assert mapper()(dataset, 2, rng())["frame_tokens"] == ["sample2", "sample1"]


def test_frames_by_seconds(rig, frames, mapper, tmp_path):
    """Twelve samples, a tenth of a second apart but for the last, which is a second later."""
    rig([(64, 48)], count=12)
    rows = [
        (replace(f, timestamp=100_000 * i), objects) for i, (f, objects) in enumerate(frames(12))
    ]
    rows[11] = (replace(rows[11][0], timestamp=2_000_000), rows[11][1])
    write_index(tmp_path / "fast.arrow", rows, NUSCENES_CLASSES)
    dataset = FrameDataset("fast", FrameIndex(tmp_path / "fast.arrow"), tmp_path)
    by_time = mapper(num_frames=3, frame_interval=0.5, frame_spacing=7)
    for row, sources in {10: (10, 5, 0), 6: (6, 1, 6), 11: (11, 11, 10)}.items():
        sample = by_time(dataset, row, rng())
        tokens = [f"sample{source}" for source in sources]
        assert sample["frame_tokens"] == tokens
        expected = np.stack([dataset.index[source].ego2global for source in sources])
        np.testing.assert_array_equal(sample["ego2global"], expected)


def test_reduced_decoding_moves_no_pixel(synthetic, mapper):
    """The matrices are those of the full size, and the pixels nearly the same."""
    options = {"image_size": (32, 64)}
    exact, reduced = (
        mapper(training=True, reduced_decoding=reduce, **options)(synthetic, 1, rng(3))
        for reduce in (False, True)
    )
    assert torch.equal(exact["image_aug"], reduced["image_aug"])
    difference = (exact["images"].float() - reduced["images"].float()).abs()
    assert 0 < difference.mean() < 4


def test_images_of_a_camera_with_a_lens_are_rectified(rig, frames, mapper, tmp_path):
    """The index has the intrinsics of the rectified image; the lens those of the file."""
    dataset = rig([(64, 48), (64, 48)], count=1)
    frame, objects = frames(1, ((64, 48), (64, 48)))[0]
    raw = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(raw).save(tmp_path / frame.image_paths[1])
    lens = Lens("fisheye", 1.3 * frame.intrinsics[1] / [[1], [1], [1.3]], (0.1, 0.01, 0, 0))
    plain = mapper(training=False)(dataset, 0)
    write_index(
        dataset.index.path, [(replace(frame, lenses=(None, lens)), objects)], NUSCENES_CLASSES
    )
    dataset = replace(dataset, index=FrameIndex(dataset.index.path))
    rectified = rectify(raw, lens, frame.intrinsics[1])
    assert np.array_equal(dataset.image(dataset.frame(0), 1), rectified)
    assert not np.array_equal(rectified, raw)
    chosen = replace(dataset, cameras=("CAM_1",))
    assert np.array_equal(chosen.image(chosen.frame(0), 0), rectified)
    sample, fixed = mapper(training=False)(dataset, 0), mapper().image_aug.fixed((64, 48))
    assert np.array_equal(sample["images"][0, 1], fixed.apply(rectified))
    assert torch.equal(sample["images"][:, 0], plain["images"][:, 0])
    assert torch.equal(sample["intrinsics"], plain["intrinsics"])


@pytest.mark.parametrize(
    ("changes", "found"),
    [({"channels": ("X",)}, "X 64 x 48"), ({"image_sizes": np.array([[32, 24]])}, "CAM_0 32 x 24")],
)
def test_cameras_that_change_within_a_scene_are_refused(rig, mapper, changes, found):
    """An index refuses them as well; here a data set of one's own changes its frames."""

    class Changed(FrameDataset):
        def frame(self, row):
            return replace(super().frame(row), **(changes if row == 0 else {}))

    plain = rig([(64, 48)])
    dataset = Changed("changed", plain.index, plain.dataroot)
    message = f"sample0 has cameras {found}, but its scene's sample sample1 has CAM_0 64 x 48; l"
    with pytest.raises(ValueError, match=message):
        mapper()(dataset, 1, rng())


def test_other_intrinsics_of_an_earlier_frame(rig, mapper):
    """A zoom: a point in the earlier frame's image is lifted with that frame's intrinsics."""
    dataset = rig([(64, 48)])
    rows = [(frame, dataset.annotations(row)) for row, frame in enumerate(dataset.index)]
    zoomed = np.diag([2, 2, 1]) @ rows[0][0].intrinsics
    rows[0] = (replace(rows[0][0], intrinsics=zoomed), rows[0][1])
    write_index(dataset.index.path, rows, NUSCENES_CLASSES)
    dataset = replace(dataset, index=FrameIndex(dataset.index.path))
    frame, sample = dataset.index[0], mapper()(dataset, 1, rng())
    point = np.array([8.0, 1.0, 0.5])  # in the key ego frame
    key2cam = frame.global2cam[0] @ dataset.index[1].key_ego2global
    u, v, depth = zoomed[0] @ (key2cam[:3, :3] @ point + key2cam[:3, 3])
    cameras = Cameras.from_samples([sample])
    network = cameras.image_aug[0] @ torch.tensor([u / depth, v / depth, depth, 1])
    original = transform_points(network[None, :3].double(), cameras.undo_image_aug()[0])
    original[:, :2] *= original[:, 2:]
    lifted = transform_points(original, cameras.image2bev(1)[0])
    expected = transform_points(torch.from_numpy(point)[None], sample["bev_aug"].double())
    torch.testing.assert_close(lifted, expected, atol=1e-4, rtol=0)


def test_frames_share_the_augmentation(rig, mapper):
    """All images of a rig's camera are equal, so its augmented frames must be equal too."""
    dataset = rig([(64, 48), (64, 48)])
    images = mapper()(dataset, 1, rng())["images"]
    assert torch.equal(images[0], images[1]) and not torch.equal(images[0, 0], images[0, 1])


@pytest.mark.parametrize(
    "sizes", [[(64, 48)], [(64, 48), (80, 45), (33, 70), (64, 48), (64, 48), (500, 20), (64, 64)]]
)
@pytest.mark.parametrize("training", [True, False])
def test_any_rig(rig, mapper, sizes, training):
    reference = len(sizes) - 1
    dataset = pickle.loads(pickle.dumps(rig(sizes, reference=reference)))
    sample = mapper(training=training)(dataset, 2, rng())
    check_shapes(sample, 2, len(sizes))
    assert torch.equal(sample["key_ego2global"], sample["ego2global"][0, reference])
    if not training:  # resized from any width to the network's
        factors = sample["image_aug"][:, 0, 0]
        np.testing.assert_allclose(factors, [W / width for width, _ in sizes], rtol=1e-6)
    else:
        assert sample["gt_heatmap"].shape[0] == len(sizes)
        assert not sample["gt_depth"].any()  # no LiDAR
    cameras = Cameras.from_samples([sample])
    key = cameras.cam2keyego[0, reference]
    np.testing.assert_allclose(key, dataset.index[2].cam2ego[reference], atol=1e-5)


def test_only_objects_with_points_in_the_grid_are_used(rig, mapper):
    dataset = rig([(64, 48)])  # its object with points is at (10, 0)
    instances = mapper(training=False, with_boxes=True)(dataset, 0)["instances"]
    assert instances.gt_classes.tolist() == [0]
    training_mapper = mapper()
    for reach, count in ((8.0, 0), (16.0, 1)):
        bounds = (-reach, reach)
        training_mapper.grid = BEVGrid(x_range=bounds, y_range=bounds, cell=0.8)
        assert len(training_mapper(dataset, 0, rng())["instances"].gt_classes) == count


@pytest.mark.parametrize("seed", range(2))
def test_labelled_pixels_lift_into_the_boxes(synthetic, mapper, seed):
    """Depth maps, augmentations, calibration and boxes are consistent: foreground pixels, lifted
    by the model's geometry, are in the augmented boxes."""
    sample = mapper()(synthetic, 1, rng(seed))
    cameras = Cameras.from_samples([sample])
    boxes = sample["instances"].gt_boxes_3d.tensor.clone()
    boxes[:, 3:6] = 1.05 * boxes[:, 3:6] + 0.2
    inside = total = 0
    for camera in range(6):
        depth, foreground = (sample[k][0, camera] for k in ("gt_depth", "gt_foreground"))
        row, column = foreground.nonzero().T
        pixel = torch.stack([column + 0.5, row + 0.5, depth[row, column]], dim=-1).double()
        original = transform_points(pixel, cameras.undo_image_aug()[camera])
        original[:, :2] *= original[:, 2:]
        points = transform_points(original, cameras.image2bev(0)[camera])
        near = (points[:, :2].abs() < 45).all(dim=1)
        inside += Boxes3D(boxes).contain(points[near].float()).any(dim=1).sum().item()
        total += near.sum().item()
    assert total > 50 and inside > 0.9 * total


def test_heatmap_peaks_are_on_the_objects(rig, mapper):
    """Of a car straight ahead of the camera: the peak is at its projected centre."""
    dataset = rig([(640, 480)])
    sample = mapper()(dataset, 0, rng(2))
    center = torch.tensor([[10.0, 0.0, 1.0]], dtype=torch.float64)
    cameras = Cameras.from_samples([sample])
    keyego2cam = torch.linalg.inv(cameras.cam2keyego[0, 0])
    u, v, depth = (transform_points(center, keyego2cam) @ sample["intrinsics"][0, 0].T)[0]
    pixel = cameras.image_aug[0] @ torch.tensor([u / depth, v / depth, 1, 1]).double()
    heatmap = sample["gt_heatmap"][0, 0]
    row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
    assert heatmap.max() > 0.5
    assert abs(4 * column + 1.5 - pixel[0]) < 8 and abs(4 * row + 1.5 - pixel[1]) < 8
    assert not sample["gt_heatmap"][0, 1:].any()


def one_point(depth, class_id):
    """A label in the middle of an image of 176 x 64 pixels."""
    u, v, z = (np.array([x], np.float32) for x in (88, 32, depth))
    return PixelPoints(u, v, z, np.array([class_id], np.int8))


@pytest.mark.parametrize(
    ("bins", "pseudo", "scale", "depth"),
    [
        ((1.0, 80.0, 0.5), 70, 1.0, 70),
        ((1.0, 41.0, 0.5), 70, 1.0, 30),  # the LiDAR point in the same pixel stays
        ((1.0, 41.0, 0.5), 40, 1.0, 40),
        ((1.0, 81.0, 0.5), 40, 0.5, 80),  # the image augmentation scales the depth by 2
        ((1.0, 79.0, 0.5), 40, 0.5, 60),
    ],
)
def test_pseudo_points_outside_of_the_depth_bins_replace_none(
    rig, mapper, tmp_path, bins, pseudo, scale, depth
):
    """A background point at 30 m and a pseudo point of a label file share a pixel."""
    dataset = replace(rig([(176, 64)], count=1), label_dir=tmp_path)
    labels = replace(PointLabels.empty(), sweep=one_point(30, -1), pseudo=one_point(pseudo, 0))
    write_labels(dataset, labels)
    mapper = mapper(num_frames=1, depth_bins=DepthBins(*bins))
    mapper.image_aug = ImageAugmentation(image_size=(64, 176), scale=(scale, scale))
    sample = mapper(dataset, 0, rng())
    assert sample["gt_depth"][sample["gt_depth"] > 0].tolist() == [depth]
    assert sample["gt_foreground"].sum() == (depth == pseudo / scale)


def write_labels(dataset, labels):
    """Writes the point labels of the first sample's only camera."""
    path, texts = label_path(dataset.label_dir, "sample0"), {"source": "", "statistics": ""}
    write_point_labels(path, [labels], dataset.index[0], classes=dataset.classes, **texts)


@pytest.mark.parametrize("combination", [True, False])
@pytest.mark.parametrize("pseudo", [True, False])
def test_intensification_can_be_switched(rig, mapper, tmp_path, combination, pseudo):
    """One foreground point of each group, in different rows of pixels."""

    def at(row):
        u, v, depth = (np.array([x], np.float32) for x in (88.5, row + 0.5, 10 + row))
        return PixelPoints(u, v, depth, np.zeros(1, np.int8))

    rows = dict(zip(("sweep", "combined", "pseudo", "pseudo_uncombined"), range(4, 8), strict=True))
    dataset = replace(rig([(176, 64)], count=1), label_dir=tmp_path)
    write_labels(dataset, PointLabels(**{group: at(row) for group, row in rows.items()}))
    expected = {"sweep"} | ({"combined"} if combination else set())
    if pseudo:
        expected |= {"pseudo"} if combination else {"pseudo", "pseudo_uncombined"}
    mapper = mapper(num_frames=1, frame_combination=combination, pseudo_points=pseudo)
    mapper.image_aug = ImageAugmentation(
        image_size=(64, 176), scale=(1.0, 1.0), flip_prob=0, max_rotation=0
    )
    sample = mapper(dataset, 0, rng())
    found = sample["gt_depth"][0, 0].nonzero()
    assert found.tolist() == [[row, 88] for group, row in rows.items() if group in expected]
    assert sample["gt_foreground"].sum() == len(expected)
