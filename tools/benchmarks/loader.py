"""Time to load a training sample, in this project and in the published way, on one core.

A sample has two frames of six JPEG files with all targets, from a fake drive; files are in the page
cache. Both implementations run in turns, sample by sample, with the same files and random draws.
They are first checked: images must be equal, labels and heatmaps must agree. Times are medians of
CPU time for each stage. The published time includes the normalisation of images, which this project
does on the device. Its 2D boxes are prepared offline, while the time of this project includes 2D
boxes, 3D boxes and matrices. The second table is the rate of this project's loader with worker
processes, in wall time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from oracles.loading import PublishedSample, augment, decode, labels_differ, normalise
from PIL import Image
from torch import Tensor

from fsdbev.data.build import build_train_loader
from fsdbev.data.dataset import FrameDataset
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.transforms.bev_aug import BEVAugmentation
from fsdbev.data.transforms.image_aug import ImageAugmentation
from fsdbev.structures import BEVGrid

from . import machine
from .drive import CAMERAS, SAMPLES, write_drive
from .turns import Case, farther_than, measure

#: Frames of a sample.
FRAMES = 2
# The published heatmaps are warped by OpenCV, which rounds positions to 1/32 pixel.
_heatmaps_differ = farther_than(1e-2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    size = {"type": int, "nargs": 2}
    image, source = "network image (default: 256 704)", "original image (default: 1600 900)"
    add("--image-size", **size, default=(256, 704), metavar=("H", "W"), help=image)
    add("--source-size", **size, default=(1600, 900), metavar=("W", "H"), help=source)
    add("--samples", type=int, default=8, help="samples to time (default: 8)")
    add("--boxes", type=int, default=40, help="objects per sample (default: 40)")
    add("--points", type=int, default=34_720, help="points per sweep (default: 34720)")
    workers = "numbers of worker processes (default: 0 1 2)"
    add("--workers", type=int, nargs="*", default=[0, 1, 2], help=workers)
    add("--folder", help="folder for the files (default: a temporary folder)")


def run(args: argparse.Namespace) -> None:
    """Writes the fake drive, compares, measures and prints the tables.

    Raises:
        ValueError: a number is less than 1, or the implementations disagree.
        FileNotFoundError: the folder of ``--json`` does not exist.
    """
    machine.check(args, "image_size", "source_size", "samples", "boxes", "points")
    # One core, as in a worker of the loader; 0 makes OpenCV run in the calling thread.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    about = {**machine.describe(), "opencv": cv2.__version__}
    machine.show(about)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        dataset = write_drive(Path(folder), args)
        mapper = make_mapper(args)
        images = FRAMES * [dataset.image(dataset.index[0], camera) for camera in range(CAMERAS)]
        by_sample = [stages(dataset, mapper, seed, images) for seed in range(args.samples)]
        rows: list[dict[str, Any]] = []
        for cases in zip(*by_sample, strict=True):
            rows += measure(cases, clock=time.process_time)
        print(f"\n{machine.table(rows)}\n", flush=True)
        rates = {n: samples_per_second(dataset, args, n) for n in args.workers}
    machine.show({f"{n} workers": f"{rate:.1f} samples/s" for n, rate in rates.items()})
    machine.write_json(args, about, rows=rows, samples_per_second=rates)


def make_mapper(args: argparse.Namespace) -> MultiViewMapper:
    """Builds a mapper for training."""
    return MultiViewMapper(
        image_aug=ImageAugmentation(image_size=tuple(args.image_size)),
        bev_aug=BEVAugmentation(),
        grid=BEVGrid(),
        training=True,
        num_frames=FRAMES,
    )


def stages(
    dataset: FrameDataset, mapper: MultiViewMapper, seed: int, images: list[NDArray[np.uint8]]
) -> list[Case]:
    """Returns one case per stage, and one for the complete sample.

    Args:
        dataset: the fake drive.
        mapper: mapper for training.
        seed: seed of the augmentation; also selects the row.
        images: decoded images, which are the same for all samples.
    """
    row = 1 + seed % (SAMPLES - 1)
    published = PublishedSample.prepare(dataset, mapper, row, seed, dataset.dataroot)
    frames = [dataset.index[r] for r in dataset.index.frame_rows(row, FRAMES)]
    transforms, objects = published.all_transforms(), dataset.index.annotations(row)
    image_aug = np.stack([transform.matrix() for transform in published.transforms])
    pictures = [Image.fromarray(image) for image in images]
    decoders = {
        "ours": lambda: [dataset.image(frame, c) for frame in frames for c in range(CAMERAS)],
        "published": lambda: [decode(file) for file in published.files],
        "OpenCV": lambda: [cv2.imread(str(file))[..., ::-1] for file in published.files],
    }
    resamplers = {
        "ours": lambda: [t.apply(image) for image, t in zip(images, transforms)],
        "published": lambda: [augment(picture, t) for picture, t in zip(pictures, transforms)],
    }
    labels = {
        "ours": partial(mapper._depth, dataset, frames, image_aug),
        "published": published.labels,
    }
    heatmaps = {
        "ours": partial(mapper._heatmaps, frames[0], objects, image_aug, len(dataset.classes)),
        "published": published.heatmaps,
    }
    complete = {
        "ours": lambda: _targets(mapper(dataset, row, np.random.default_rng(seed))),
        "published": lambda: (published.images(), *published.labels(), published.heatmaps()),
    }
    return [
        Case("decode", f"{len(images)} images", decoders, _pixels_differ),
        Case("augment", f"{len(images)} images", resamplers, _pixels_differ),
        Case("label maps", f"{len(images)} images", labels, labels_differ),
        Case("heatmaps", f"{CAMERAS} images", heatmaps, _heatmaps_differ),
        Case("all", "a sample", complete, _samples_differ),
    ]


def _targets(sample: dict[str, Any]) -> tuple[Tensor, ...]:
    """Returns the entries that the published sample has too."""
    return tuple(sample[key] for key in ("images", "gt_depth", "gt_foreground", "gt_heatmap"))


def _pixels_differ(own: Sequence[Any], other: Sequence[Any]) -> str:
    """Compares images, which are arrays of any layout or Pillow images."""
    pairs = zip(own, other, strict=True)
    count = sum(not np.array_equal(_rows_first(a), _rows_first(b)) for a, b in pairs)
    return f"{count} images differ" if count else ""


def _rows_first(image: Any) -> NDArray[np.uint8]:
    """Returns an image as (height, width, 3)."""
    pixels = np.asarray(image)
    return pixels.transpose(1, 2, 0) if pixels.shape[0] == 3 else pixels


def _samples_differ(own: Sequence[Tensor], other: Sequence[Tensor]) -> str:
    """Compares complete samples."""
    # Images of this project are normalised on the device, those of the published sample already.
    pixels = [Image.fromarray(_rows_first(image)) for image in own[0].flatten(0, 1)]
    images = torch.stack([normalise(image) for image in pixels]).view_as(other[0])
    if not torch.equal(images, other[0]):
        return "images"
    return labels_differ(own[1:3], other[1:3]) or _heatmaps_differ(own[3], other[3])


def samples_per_second(dataset: FrameDataset, args: argparse.Namespace, workers: int) -> float:
    """Measures the rate of the loader in wall time, after a warm-up of two samples per worker."""
    loader = build_train_loader(
        dataset=dataset,
        mapper=make_mapper(args),
        total_batch_size=1,
        class_balanced=False,
        num_workers=workers,
        seed=0,
    )
    samples = iter(loader)
    warm_up = max(1, 2 * workers)
    list(islice(samples, warm_up))
    begin, count = time.perf_counter(), max(args.samples, warm_up) * max(1, workers)
    for _ in islice(samples, count):
        pass
    return count / (time.perf_counter() - begin)
