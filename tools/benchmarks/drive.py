"""Writes a short fake drive as dense as nuScenes: index, JPEG files, sweeps and point labels."""

from __future__ import annotations

import argparse
import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.fake import fake_frame
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations, Lidar
from fsdbev.data.nuscenes.prepare import label_rows
from fsdbev.structures import NUSCENES_CLASSES

CAMERAS, SAMPLES = 6, 3
#: JPEG quality and chroma subsampling of nuScenes' files.
_QUALITY, _SAMPLING = 80, 2
#: Contrast of image detail of 2, 4, 8, ... pixels, in grey levels, as in photographs.
_CONTRAST = (2.5, 5.0, 10.0, 20.0, 40.0, 40.0, 40.0)
#: Height of the LiDAR above the ground and largest x, y of objects, metres.
_LIDAR_HEIGHT, _REACH = 1.84, 50.0
#: Fraction of a sweep's points on objects.
_OBJECT_POINTS = 0.1


def write_drive(folder: Path, args: argparse.Namespace) -> FrameDataset:
    """Writes a drive of ``SAMPLES`` samples.

    Args:
        folder: output folder.
        args: arguments of the command line: ``source_size``, ``boxes`` and ``points``.
    """
    # One photo per camera serves all samples, since making the noise is slow.
    size = tuple(args.source_size)
    photos = [folder / f"photo_{camera}.jpg" for camera in range(CAMERAS)]
    for seed, photo in enumerate(photos):
        write_photo(photo, seed, size)
    rng = np.random.default_rng(0)
    rows = []
    for row in range(SAMPLES):
        frame = fake_frame(row, SAMPLES, image_sizes=[size] * CAMERAS)
        pose = np.eye(4)
        pose[2, 3] = _LIDAR_HEIGHT
        lidar = Lidar(f"{row}.bin", frame.timestamp, pose, frame.ego2global[0])
        images = tuple(f"{row}_{camera}.jpg" for camera in range(CAMERAS))
        objects = _objects(rng, args.boxes)
        _sweep(rng, objects, args.points).tofile(folder / lidar.path)
        for photo, image in zip(photos, images):
            shutil.copy(photo, folder / image)
        rows.append((replace(frame, image_paths=images, lidar=lidar), objects))
    write_index(folder / "index.arrow", rows, NUSCENES_CLASSES)
    index, labels = FrameIndex(folder / "index.arrow"), folder / "labels"
    list(label_rows(index, folder, labels, workers=0))
    return FrameDataset("fake", index, folder, labels)


def write_photo(path: Path, seed: int, size: tuple[int, int]) -> None:
    """Writes a JPEG file of noise at all scales.

    The file is about as large as those of nuScenes and takes about as long to decode.

    Args:
        path: output file.
        seed: seed of the noise.
        size: width and height in pixels.
    """
    rng = np.random.default_rng(seed)
    pixels = np.full((size[1], size[0], 3), 110.0, np.float32)
    for octave, contrast in enumerate(_CONTRAST, start=1):
        step = 2**octave
        noise = rng.normal(0, contrast, (size[1] // step + 1, size[0] // step + 1, 3))
        noise[..., 1:] = noise[..., :1] + 0.3 * noise[..., 1:]  # faint colours, mostly grey
        pixels += cv2.resize(noise.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    picture.save(path, "JPEG", quality=_QUALITY, subsampling=_SAMPLING)


def _objects(rng: np.random.Generator, count: int) -> Annotations:
    """Draws random objects on the ground."""
    boxes = np.zeros((count, 9), np.float32)
    boxes[:, :2] = rng.uniform(-_REACH, _REACH, (count, 2))
    boxes[:, 3:6] = rng.uniform((0.5, 0.5, 1.2), (8.0, 2.5, 3.0), (count, 3))
    boxes[:, 2], boxes[:, 6] = boxes[:, 5] / 2, rng.uniform(-math.pi, math.pi, count)
    return Annotations.from_boxes(boxes, rng.integers(len(NUSCENES_CLASSES), size=count))


def _sweep(rng: np.random.Generator, objects: Annotations, points: int) -> NDArray[np.float32]:
    """Draws the (points, 5) records of a sweep: ground, walls, and points inside objects."""
    elevation = np.radians(rng.choice(np.linspace(-30, 10, 32), points))
    azimuth = rng.uniform(-math.pi, math.pi, points)
    ground = _LIDAR_HEIGHT / np.maximum(np.tan(-elevation), 1e-3)
    distance = np.minimum(rng.uniform(5, 70, points), ground)
    records = np.zeros((points, 5), np.float32)
    records[:, 0], records[:, 1] = distance * np.cos(azimuth), distance * np.sin(azimuth)
    records[:, 2] = distance * np.tan(elevation)
    hits = int(_OBJECT_POINTS * points)
    # Offsets of up to a quarter of the smallest side stay inside a box of any heading.
    inside = rng.uniform(-0.25, 0.25, (hits, 3))
    box = rng.integers(len(objects), size=hits)
    records[:hits, :3] = objects.center[box] + inside * objects.size[box].min(axis=1)[:, None]
    records[:hits, 2] -= _LIDAR_HEIGHT
    return records
