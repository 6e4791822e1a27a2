"""Time to load a training sample: ours against the published way, stage by stage, on one core.

Two frames of six JPEG files with all targets, from a fake drive; files come from the page cache.
The sides take turns, sample by sample, on the same files and random draws, and are checked first:
images are equal, labels and heatmaps agree. Times are CPU time, medians over samples. The published
way normalises the images, which ours leaves to the device, and its 2D boxes are prepared offline,
while ours are computed; 3D boxes and matrices are only in our time. Then our loader with worker
processes, in wall time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
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

FRAMES = 2
#: OpenCV warps in steps of 1/32 pixel.
_heatmaps_differ = farther_than(1e-2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--image-size", type=int, nargs=2, default=(256, 704), metavar=("H", "W"))
    add("--source-size", type=int, nargs=2, default=(1600, 900), metavar=("W", "H"))
    add("--samples", type=int, default=8, help="samples to time")
    add("--boxes", type=int, default=40, help="objects in a sample")
    add("--points", type=int, default=34_720, help="points in a sweep")
    add("--workers", type=int, nargs="*", default=[0, 1, 2])
    add("--folder", help="for the fake files; default: a temporary one")


def run(args: argparse.Namespace) -> None:
    """Writes the fake drive, compares, measures, prints the tables.

    Raises:
        ValueError: there is nothing to measure, or the sides do not agree.
        FileNotFoundError: there is no folder for ``--json``.
    """
    machine.check(args, "image_size", "source_size", "samples", "boxes", "points")
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
    """One case a stage, and one for the whole sample, with the draws of a seed.

    Args:
        images: decoded, the same for every sample.
    """
    row = 1 + seed % (SAMPLES - 1)
    given = PublishedSample.prepare(dataset, mapper, row, seed, dataset.dataroot)
    frames = [dataset.index[r] for r in dataset.index.frame_rows(row, FRAMES)]
    transforms, objects = given.all_transforms(), dataset.index.annotations(row)
    image_aug = np.stack([transform.matrix() for transform in given.transforms])
    pictures = [Image.fromarray(image) for image in images]
    decoders = {
        "ours": lambda: [dataset.image(frame, c) for frame in frames for c in range(CAMERAS)],
        "published": lambda: [decode(file) for file in given.files],
        "OpenCV": lambda: [cv2.imread(str(file))[..., ::-1] for file in given.files],
    }
    resamplers = {
        "ours": lambda: [t.apply(image) for image, t in zip(images, transforms)],
        "published": lambda: [augment(picture, t) for picture, t in zip(pictures, transforms)],
    }
    labels = {
        "ours": lambda: mapper._depth(dataset, frames, image_aug),
        "published": given.labels,
    }
    heatmaps = {
        "ours": lambda: mapper._heatmaps(frames[0], objects, image_aug),
        "published": given.heatmaps,
    }
    whole = {
        "ours": lambda: _targets(mapper(dataset, row, np.random.default_rng(seed))),
        "published": lambda: (given.images(), *given.labels(), given.heatmaps()),
    }
    return [
        Case("decode", f"{len(images)} images", decoders, _pixels_differ),
        Case("augment", f"{len(images)} images", resamplers, _pixels_differ),
        Case("label maps", f"{len(images)} images", labels, labels_differ),
        Case("heatmaps", f"{CAMERAS} images", heatmaps, _heatmaps_differ),
        Case("all", "a sample", whole, _samples_differ),
    ]


def _targets(sample: dict[str, Any]) -> tuple[Tensor, ...]:
    return tuple(sample[key] for key in ("images", "gt_depth", "gt_foreground", "gt_heatmap"))


def _pixels_differ(own: Sequence[Any], other: Sequence[Any]) -> str:
    """Images as arrays of any layout or as pictures."""
    same = [np.array_equal(_rows_first(a), _rows_first(b)) for a, b in zip(own, other, strict=True)]
    return "" if all(same) else f"{same.count(False)} images differ"


def _rows_first(image: Any) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    return pixels.transpose(1, 2, 0) if pixels.shape[0] == 3 else pixels


def _samples_differ(own: Sequence[Tensor], other: Sequence[Tensor]) -> str:
    """Our images are not normalised yet."""
    pixels = [Image.fromarray(_rows_first(image)) for image in own[0].flatten(0, 1)]
    images = torch.stack([normalise(image) for image in pixels]).view_as(other[0])
    if not torch.equal(images, other[0]):
        return "images"
    return labels_differ(own[1:3], other[1:3]) or _heatmaps_differ(own[3], other[3])


def samples_per_second(dataset: FrameDataset, args: argparse.Namespace, workers: int) -> float:
    """Of our loader, in wall time, after two samples of every worker."""
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
