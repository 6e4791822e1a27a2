"""Benchmark cases of image heatmaps, the targets of the foreground branch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import torch
from oracles.heatmaps import published_heatmaps

from fsdbev.data.fake import fake_samples
from fsdbev.layers import elliptical_heatmaps, elliptical_heatmaps_reference

from .turns import Case, farther_than

#: Original image (width, height), pixels.
_SOURCE = (1600, 900)
_STRIDE = 4
_CLASSES = 10
#: The published heatmaps are warped by OpenCV, which rounds positions to 1/32 pixel.
_WARPING_TOLERANCE = 1e-2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-boxes", type=int, default=10, help="2D boxes per image (default: 10)"
    )


def cases(args: argparse.Namespace, device: torch.device) -> Iterator[Case]:
    """Yields a case of one camera and a case of --views cameras."""
    for views in dict.fromkeys((1, args.views)):
        yield _images_case(args, views, device)


def _images_case(args: argparse.Namespace, views: int, device: torch.device) -> Case:
    """Returns the case of a number of cameras with random boxes."""
    number, generator = args.image_boxes, torch.Generator().manual_seed(0)
    source = torch.tensor(_SOURCE)
    center = torch.rand(views * number, 2, generator=generator) * source
    half = 8 + torch.rand(views * number, 2, generator=generator) * source / 8
    boxes = torch.cat([(center - half).clamp(min=0), (center + half).minimum(source)], dim=1)
    class_ids = torch.randint(_CLASSES, (len(boxes),), generator=generator)
    view = torch.arange(views).repeat_interleave(number)
    size = {"num_frames": 1, "num_cameras": views, "image_size": tuple(args.image_size)}
    image_aug = fake_samples(1, **size)[0]["image_aug"]
    inputs = (boxes, view, class_ids, image_aug, source.expand(views, 2))
    on_device = tuple(tensor.to(device) for tensor in inputs)
    shapes = (_CLASSES, size["image_size"], _STRIDE)
    settings = dict(zip(("num_classes", "image_size", "stride"), shapes))
    sides = {
        "ours": partial(elliptical_heatmaps, *on_device, **settings),
        "reference": partial(elliptical_heatmaps_reference, *on_device, *shapes),
        "published": partial(published_heatmaps, *inputs, **settings),
    }
    name = f"{views} camera{'s' if views > 1 else ''}, {number} boxes each"
    return Case("elliptical_heatmaps", name, sides, farther_than(_WARPING_TOLERANCE))
