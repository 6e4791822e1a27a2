"""Point labels: groups and storage. tests/bad_inputs has the inputs that are refused."""

from dataclasses import fields

import numpy as np
import pytest

from fsdbev.data.labels.point_labels import (
    PixelPoints,
    PointLabels,
    read_point_labels,
    write_point_labels,
)


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


def write(path, labels, size=(1600, 900), source="source"):
    write_point_labels(path, labels, np.array([size] * len(labels)), source=source, statistics="n")


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
    assert path.stat().st_size < 7 * 1212 + 3500
    for found, camera in zip(read_point_labels(path, "source"), cameras, strict=True):
        for a, b in zip(found.groups, camera.groups, strict=True):
            np.testing.assert_allclose(a.u, b.u, atol=step / 2 + 1e-6)
            np.testing.assert_allclose(a.v, b.v, atol=step / 2 + 1e-6)
            np.testing.assert_allclose(a.depth, b.depth, atol=1 / 512 + 1e-5)
            np.testing.assert_array_equal(a.class_ids, b.class_ids)
            assert a.u.dtype == a.depth.dtype == np.float32


def test_points_too_deep_to_store_are_dropped(tmp_path):
    labels = PointLabels(of_depths(5, 300, 6), of_depths(256), of_depths(7), of_depths(8, 9))
    write(tmp_path / "x.arrow", [labels])
    found = read_point_labels(tmp_path / "x.arrow")[0]
    assert [group.class_ids.tolist() for group in found.groups] == [[5, 6], [], [7], [8, 9]]
