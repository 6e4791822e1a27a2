"""Point labels: groups and storage. tests/bad_inputs has the inputs that are refused."""

from dataclasses import fields

import numpy as np
import pytest

from fsdbev.data.fake import fake_frame
from fsdbev.data.labels.point_labels import (
    PixelPoints,
    PointLabels,
    read_point_labels,
    write_point_labels,
)
from fsdbev.structures import NUSCENES_CLASSES, DepthBins


def random_points(rng, count, size=(1600, 900)) -> PixelPoints:
    return PixelPoints(
        rng.uniform(1, size[0] - 1, count).astype(np.float32),
        rng.uniform(1, size[1] - 1, count).astype(np.float32),
        rng.uniform(1, 120, count).astype(np.float32),
        rng.integers(-1, 10, count).astype(np.int8),
    )


def of_depths(*depths) -> PixelPoints:
    """Points whose depth and class are the same number, by which they are identified."""
    values = np.array(depths, np.float32)
    return PixelPoints(values, values, values, values.astype(np.int8))


def write(path, labels, size=(1600, 900)):
    """Writes the labels of cameras CAM_0, CAM_1, ..."""
    frame = fake_frame(0, 1, image_sizes=[size] * len(labels))
    texts = {"source": "source", "statistics": "n"}
    write_point_labels(path, labels, frame, classes=NUSCENES_CLASSES, **texts)


def read(path):
    return read_point_labels(path, NUSCENES_CLASSES, "source")


@pytest.mark.parametrize(
    ("combination", "pseudo", "expected"),
    [
        (True, True, [1, 2, 3, 4, 5]),
        (True, False, [1, 2, 3, 4]),
        (False, True, [1, 2, 5, 6]),
        (False, False, [1, 2]),
    ],
)
def test_strategies_can_be_switched(combination, pseudo, expected):
    labels = PointLabels(of_depths(1, 2), of_depths(3, 4), of_depths(5), of_depths(6))
    chosen = labels.select(frame_combination=combination, pseudo_points=pseudo)
    for field in fields(PixelPoints):
        assert getattr(chosen, field.name).tolist() == expected
    assert chosen.class_ids.dtype == np.int8 and chosen.depth.dtype == np.float32


@pytest.mark.parametrize(("size", "step"), [((1600, 900), 1 / 32), ((160, 90), 1 / 256)])
def test_precision_of_the_storage(tmp_path, size, step):
    rng = np.random.default_rng(0)
    counts = ((1000, 200, 3, 2), (0, 0, 0, 0), (1, 0, 0, 1), (0, 5, 0, 0))
    cameras = [PointLabels(*(random_points(rng, n, size) for n in camera)) for camera in counts]
    path = tmp_path / "x.arrow"
    write(path, cameras, size)
    assert path.stat().st_size < 7 * 1212 + 5000  # header with the classes
    labels = read(path)
    assert list(labels) == ["CAM_0", "CAM_1", "CAM_2", "CAM_3"]
    for found, camera in zip(labels.values(), cameras, strict=True):
        for a, b in zip(found.groups, camera.groups, strict=True):
            np.testing.assert_allclose(a.u, b.u, atol=step / 2 + 1e-6)
            np.testing.assert_allclose(a.v, b.v, atol=step / 2 + 1e-6)
            np.testing.assert_allclose(a.depth, b.depth, atol=1 / 512 + 1e-5)
            np.testing.assert_array_equal(a.class_ids, b.class_ids)
            assert a.u.dtype == a.depth.dtype == np.float32


def test_pseudo_points_within_depth_bins():
    """The bins are of the scaled depth. LiDAR points are kept at any depth, as in the release."""
    labels = PointLabels(of_depths(0, 70), of_depths(80), of_depths(1, 2, 39, 41), of_depths(40))
    near = labels.within_bins(DepthBins(2.0, 40.0, 0.5), 1.0)
    # At exactly ``stop`` there is no bin.
    assert [group.depth.tolist() for group in near.groups] == [[0, 70], [80], [2, 39], []]
    scaled = labels.within_bins(DepthBins(2.0, 40.0, 0.5), 2.0)
    assert [group.depth.tolist() for group in scaled.groups] == [[0, 70], [80], [1, 2], []]


def test_points_too_deep_to_store_are_dropped(tmp_path):
    labels = PointLabels(of_depths(5, 300, 6), of_depths(256), of_depths(7), of_depths(8, 9))
    write(tmp_path / "x.arrow", [labels])
    (found,) = read(tmp_path / "x.arrow").values()
    assert [group.class_ids.tolist() for group in found.groups] == [[5, 6], [], [7], [8, 9]]
