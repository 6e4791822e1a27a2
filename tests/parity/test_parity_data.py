"""Augmentation and targets are what the public release computed (README.md)."""

import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from fsdbev.data.labels.point_labels import PixelPoints
from fsdbev.data.transforms.bev_aug import bev_transform
from fsdbev.data.transforms.foreground_targets import depth_maps, heatmaps
from fsdbev.data.transforms.image_aug import ImageTransform
from fsdbev.structures import Boxes3D

IMAGE, SOURCE = (256, 704), (1600, 900)
MEAN = np.array([123.675, 116.28, 103.53], np.float32)[:, None, None]
STD = np.array([58.395, 57.12, 57.375], np.float32)[:, None, None]


@pytest.fixture(scope="module")
def components():
    return np.load(pathlib.Path(__file__).parent / "components.npz")


@pytest.fixture(params=range(4))
def case(request, components):
    """Arrays of one augmentation, and the transform of its parameters."""
    prefix = f"aug{request.param}."
    arrays = {
        name.removeprefix(prefix): components[name]
        for name in components.files
        if name.startswith(prefix)
    }
    resize, width, height, left, top, _, _, flip, rotation, scale = arrays["params"]
    arrays["transform"] = ImageTransform(
        resize=resize,
        resized=(int(width), int(height)),
        crop=(int(left), int(top)),
        output=IMAGE[::-1],
        flip=bool(flip),
        rotation=rotation,
        depth_scale=1 / scale,
    )
    return arrays


def test_images_are_equal_bit_for_bit(case, components):
    image = Image.fromarray(components["img_base18x32"]).resize(SOURCE, Image.Resampling.BICUBIC)
    pixels = case["transform"].apply(np.asarray(image))[:, ::8, ::8]
    np.testing.assert_array_equal(pixels.transpose(1, 2, 0), case["image_s8"])
    np.testing.assert_allclose((pixels - MEAN) / STD, case["norm_s8"], atol=1e-6)


def test_image_matrix(case):
    matrix = case["transform"].matrix()
    np.testing.assert_allclose(matrix[:2, :2], case["post_rot"], atol=1e-6)
    np.testing.assert_allclose(matrix[:2, 3], case["post_tran"], atol=1e-4)


def test_heatmaps(case):
    found = heatmaps(
        [case["boxes2d"]],
        [case["labels2d"]],
        case["transform"].matrix()[None],
        np.array([SOURCE]),
        num_classes=10,
        image_size=IMAGE,
    )
    np.testing.assert_allclose(found[0], case["heatmap"], atol=2e-3)  # the tolerance is 1e-2


def test_depth_and_foreground_maps(case):
    u, v, depth, class_ids = case["points"].T
    points = PixelPoints(u, v, depth, class_ids.astype(np.int8))
    maps = depth_maps([points], case["transform"].matrix()[None], IMAGE)
    found, foreground = (of_view[0] for of_view in maps)
    expected = np.zeros(IMAGE, np.float32)
    row, column, values = case["depth_yxd"].T
    expected[row.astype(int), column.astype(int)] = values
    np.testing.assert_allclose(found, expected, atol=1e-4)
    expected = np.zeros(IMAGE, bool)
    expected[tuple(case["fg_yx"].T)] = True
    np.testing.assert_array_equal(foreground, expected)


@pytest.mark.parametrize("i", range(4))
def test_bev_augmentation(components, i):
    rotation, scale, flip_x, flip_y = components[f"bda{i}.params"]
    matrix = bev_transform(rotation=rotation, scale=scale, flip_x=bool(flip_x), flip_y=bool(flip_y))
    np.testing.assert_allclose(matrix[:3, :3], components[f"bda{i}.mat"], atol=1e-6)
    boxes = Boxes3D(torch.from_numpy(components[f"bda{i}.in"]))
    moved = boxes.transformed(torch.from_numpy(matrix)).with_yaw_in_range().tensor
    expected = Boxes3D(torch.from_numpy(components[f"bda{i}.out"])).with_yaw_in_range().tensor
    torch.testing.assert_close(moved, expected, atol=2e-5, rtol=1e-5)
