"""Time to load a training sample: ours against the published way, restated, stage by stage.

Two frames of six 1600 x 900 JPEG files with all targets, on one core. The sides take turns, sample
by sample, with the same files and random draws; unless their images are the same to the last bit,
and labels and heatmaps alike, there is no table. Times are CPU time, medians over samples; files
come from the page cache. The published way normalises the images, which ours leaves to the device,
and is given 2D boxes that ours computes; 3D boxes and matrices are only in our time. "MB" is by how
much the process grows at most while a sample is loaded, the sample included. Then: ways to decode
and to augment one image, and our loader with worker processes, in wall time.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
from torch import Tensor

from fsdbev.data.bev_aug import BEVAugmentation
from fsdbev.data.build import build_train_loader
from fsdbev.data.dataset import FrameDataset
from fsdbev.data.image_aug import ImageAugmentation, ImageTransform
from fsdbev.data.index import FrameIndex, write_index
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.prepare import label_rows
from fsdbev.data.targets import image_boxes
from fsdbev.structures import BEVGrid
from fsdbev.utils.atomic_write import atomic_write

from . import made_up
from .decoding import image_rows
from .machine import check_folder, peak_memory, reset_peak_memory
from .photos import write_photo
from .reference_loading import ReferenceInput, load
from .stopwatch import Stopwatch

#: Our stages, by the methods that do them.
STAGES = {
    "decode": (FrameDataset, "image"),
    "augment": (ImageTransform, "apply"),
    "label maps": (MultiViewMapper, "_depth"),
    "heatmaps": (MultiViewMapper, "_heatmaps"),
    "boxes": (MultiViewMapper, "_instances"),
}
FRAMES, CAMERAS = 2, 6
_CPU = torch.device("cpu")
_MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
_STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
#: float32 and float64 may put a point into neighbouring pixels.
_LABELS_ALIKE = 0.99
#: The published code warps in steps of 1/32 pixel (SPEC.md section 9).
_HEATMAP_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Row:
    """CPU time of a stage, None where a side has none; ``ratio``: the reference's over ours."""

    stage: str
    milliseconds: float | None
    reference_milliseconds: float | None

    @property
    def ratio(self) -> float | None:
        if not self.milliseconds or self.reference_milliseconds is None:
            return None
        return self.reference_milliseconds / self.milliseconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 704), metavar=("H", "W"))
    parser.add_argument("--source-size", type=int, nargs=2, default=(1600, 900), metavar=("W", "H"))
    parser.add_argument("--samples", type=int, default=8, help="samples to time")
    parser.add_argument("--boxes", type=int, default=40, help="objects in a sample")
    parser.add_argument("--points", type=int, default=34_720, help="points in a sweep")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--photos", type=Path, help="folder of JPEG files to use, one a camera")
    parser.add_argument("--folder", help="for the made-up files; default: a temporary one")
    parser.add_argument("--json", type=Path, help="file for the same rows, unrounded")


def run(args: argparse.Namespace) -> None:
    """Makes the data up, compares, measures, prints the tables.

    Raises:
        ValueError: there is nothing to measure, or the sides do not agree.
        FileNotFoundError: there is no folder for ``--json``, or too few ``--photos``.
    """
    _check(args)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    machine = {
        "device": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "opencv": cv2.__version__,
    }
    print("\n".join(f"{name}: {value}" for name, value in machine.items()))
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        dataset = write_data_set(Path(folder), args)
        files = [Path(folder) / path for path in dataset.index[0].image_paths]
        size = statistics.mean(file.stat().st_size for file in files)
        print(f"JPEG files: {size / 1e3:.0f} kB\n")
        stages, megabytes = measure(dataset, make_mapper(args), args.samples)
        print(table(stages))
        print("peak memory: " + ", ".join(f"{n} {mb:.0f} MB" for n, mb in megabytes.items()) + "\n")
        images = image_rows(files, make_mapper(args).image_aug)
        print(*images, sep="\n", flush=True)
        rates = {n: samples_per_second(dataset, args, n) for n in args.workers}
    print("\n" + "\n".join(f"{n} workers: {rate:.1f} samples/s" for n, rate in rates.items()))
    if args.json:
        content = {
            "machine": machine,
            "settings": {k: v for k, v in vars(args).items() if k not in ("run", "json")},
            "stages": [{**asdict(row), "ratio": row.ratio} for row in stages],
            "peak_megabytes": megabytes,
            "images": [asdict(row) for row in images],
            "samples_per_second": rates,
        }
        with atomic_write(args.json) as file:
            file.write(json.dumps(content, indent=2, default=str).encode() + b"\n")


def write_data_set(folder: Path, args: argparse.Namespace) -> FrameDataset:
    """A short drive; a camera's photograph is the same in all its samples."""
    width, height = args.source_size
    samples = list(made_up.samples(3, args.boxes, CAMERAS))
    photos = [folder / f"photo_{camera}.jpg" for camera in range(CAMERAS)]
    for camera, photo in enumerate(photos):
        if args.photos:
            shutil.copy(sorted(args.photos.rglob("*.jpg"))[camera], photo)
        else:
            write_photo(photo, (2, camera), width, height)
    for row, (frame, objects) in enumerate(samples):
        frame.image_sizes[:] = width, height
        frame.intrinsics[:, :2] *= np.array([[width / made_up.WIDTH], [height / made_up.HEIGHT]])
        made_up.write_sweep(folder / frame.lidar.path, row, objects, args.points)
        for photo, path in zip(photos, frame.image_paths):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, folder / path)
    write_index(folder / "index.arrow", samples)
    index, labels = FrameIndex(folder / "index.arrow"), folder / "labels"
    list(label_rows(index, folder, labels, workers=0))
    return FrameDataset("made up", index, folder, labels)


def make_mapper(args: argparse.Namespace) -> MultiViewMapper:
    return MultiViewMapper(
        image_aug=ImageAugmentation(image_size=tuple(args.image_size)),
        bev_aug=BEVAugmentation(),
        grid=BEVGrid(),
        training=True,
        num_frames=FRAMES,
    )


def measure(
    dataset: FrameDataset, mapper: MultiViewMapper, samples: int
) -> tuple[list[Row], dict[str, float]]:
    """A row a stage and one for the whole, and the memory of each side where the system tells it.
    The first sample warms both sides up.

    Raises:
        ValueError: the sides do not load the same.
    """
    times: dict[str, list[dict[str, float]]] = {"ours": [], "reference": []}
    megabytes: dict[str, float] = {}
    for number in range(samples + 1):
        row = 1 + number % (len(dataset) - 1)
        given = reference_input(dataset, row, mapper, number)
        loaded = {}
        for side in sorted(times, reverse=bool(number % 2)):
            watch = Stopwatch()
            before = _peak()
            with watch("total"):
                if side == "reference":
                    loaded[side] = load(given, watch)
                else:
                    with watch.around(STAGES):
                        loaded[side] = mapper(dataset, row, np.random.default_rng(number))
            times[side].append(watch.milliseconds)
            if before is not None:
                megabytes[side] = max(megabytes.get(side, 0), (peak_memory(_CPU) - before) / 1e6)
        check(loaded["ours"], loaded["reference"])
    medians = [
        {stage: statistics.median(t[stage] for t in side[1:]) for stage in side[0]}
        for side in times.values()
    ]
    stages = [*STAGES, "normalise", "total"]
    return [Row(stage, *(side.get(stage) for side in medians)) for stage in stages], megabytes


def _peak() -> float | None:
    reset_peak_memory(_CPU)
    return peak_memory(_CPU)


def reference_input(
    dataset: FrameDataset, row: int, mapper: MultiViewMapper, seed: int
) -> ReferenceInput:
    """The same files and draws as the mapper's with this seed. Writes the points' files."""
    frames = [dataset.index[r] for r in dataset.index.frame_rows(row, mapper.num_frames)]
    key, generator = frames[0], np.random.default_rng(seed)
    points = []
    for frame in frames:
        points.append([])
        for camera, labels in enumerate(dataset.point_labels(frame)):
            seen = labels.select()
            path = dataset.dataroot / f"{frame.sample_token}_{camera}.npy"
            np.save(path, np.stack([seen.u, seen.v, seen.depth, seen.class_ids]))
            points[-1].append(path)
    annotations = dataset.index.annotations(row)
    annotations = annotations.select(annotations.has_points)
    found = [
        image_boxes(corners, key.intrinsics[camera], tuple(key.image_sizes[camera]))
        for camera, corners in enumerate(key.corners_in_cameras(annotations))
    ]
    return ReferenceInput(
        images=[[dataset.dataroot / path for path in frame.image_paths] for frame in frames],
        points=points,
        transforms=[mapper.image_aug.sample(size, generator) for size in key.image_sizes],
        boxes=[boxes for boxes, _ in found],
        class_ids=[annotations.class_ids[owners] for _, owners in found],
    )


def check(own: dict[str, Tensor], reference: dict[str, Tensor]) -> None:
    """Raises ValueError unless the sides have loaded the same."""
    pixels = (reference["images"] * _STD + _MEAN).round().to(torch.uint8)
    wrong = []
    if not torch.equal(own["images"], pixels):
        wrong.append("images")
    for name in ("gt_depth", "gt_foreground"):
        seen = (own["gt_depth"] > 0) | (reference["gt_depth"] > 0)
        alike = (own[name].float() - reference[name]).abs() <= 1e-4
        if alike[seen].float().mean() < _LABELS_ALIKE:
            wrong.append(name)
    if (own["gt_heatmap"] - reference["gt_heatmap"]).abs().max() > _HEATMAP_TOLERANCE:
        wrong.append("gt_heatmap")
    if wrong:
        raise ValueError(f"the sides do not agree in {', '.join(wrong)}: their times mean nothing")


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
    samples: Iterator[Sequence[dict]] = iter(loader)
    warm_up = max(1, 2 * workers)
    list(islice(samples, warm_up))
    begin, count = time.perf_counter(), max(args.samples, warm_up) * max(1, workers)
    for _ in islice(samples, count):
        pass
    return count / (time.perf_counter() - begin)


def table(rows: Sequence[Row]) -> str:
    """Aligned text, one line a stage."""
    lines = [f"{'CPU ms a sample':<16} {'ours':>8} {'reference':>10} {'x':>6}"]
    for row in rows:
        values = (row.milliseconds, row.reference_milliseconds, row.ratio)
        cells = ["-" if value is None else f"{value:.1f}" for value in values]
        lines.append(f"{row.stage:<16} {cells[0]:>8} {cells[1]:>10} {cells[2]:>6}")
    return "\n".join(lines)


def _check(args: argparse.Namespace) -> None:
    if min(args.samples, args.boxes, args.points) < 1 or min(args.workers, default=0) < 0:
        raise ValueError("--samples, --boxes and --points start at 1, --workers at 0")
    check_folder(args.json)
    if args.photos and len(list(args.photos.rglob("*.jpg"))) < CAMERAS:
        raise FileNotFoundError(f"--photos: {args.photos} has less than {CAMERAS} .jpg files")
