"""Pictures of the samples of a frame index, with the boxes of their annotations and others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fsdbev.data.index import FrameIndex
from fsdbev.data.records import Annotations, Frame
from fsdbev.structures import Boxes3D, invert

from .mosaic import mosaic
from .views import CameraView, LabelledBoxes


def choose_rows(index: FrameIndex, count: int) -> list[int]:
    """``count`` rows spread evenly over the index, all where it has fewer."""
    if count < 1:
        raise ValueError(f"the number of samples must be at least 1, got {count}")
    return sorted({int(row) for row in np.linspace(0, len(index) - 1, min(count, len(index)))})


def rows_of(index: FrameIndex, sample_tokens: Sequence[str]) -> list[int]:
    """Rows of the samples with these tokens, in this order."""
    rows = {index[row].sample_token: row for row in range(len(index))}
    unknown = [token for token in sample_tokens if token not in rows]
    if unknown:
        raise ValueError(
            f"{index.path} holds no samples {unknown}; one it holds is {next(iter(rows))}"
        )
    return [rows[token] for token in sample_tokens]


def camera_views(frame: Frame, dataroot: str | os.PathLike) -> list[CameraView]:
    """The pictures of a sample's cameras, read from ``dataroot``, with their calibration."""
    global2keyego = invert(torch.tensor(frame.key_ego2global))
    cam2keyego = global2keyego @ torch.tensor(frame.ego2global @ frame.cam2ego)
    views = []
    for i, name in enumerate(frame.channels):
        with Image.open(Path(dataroot) / frame.image_paths[i]) as image:
            pixels = np.asarray(image.convert("RGB"))
        views.append(CameraView(name, pixels, cam2keyego[i], torch.tensor(frame.intrinsics[i])))
    return views


def true_boxes(annotations: Annotations) -> LabelledBoxes:
    """The annotated objects that LiDAR or radar hit: those that evaluation counts."""
    return boxes_of(annotations.select(annotations.has_points))


def boxes_of(annotations: Annotations) -> LabelledBoxes:
    """All objects, key ego."""
    labels = torch.from_numpy(annotations.class_ids.astype(np.int64))
    return LabelledBoxes(Boxes3D(torch.from_numpy(annotations.boxes)), labels)


def draw_sample(
    index: FrameIndex,
    row: int,
    dataroot: str | os.PathLike,
    predictions: LabelledBoxes | None = None,
) -> np.ndarray:
    """(H, W, 3) uint8 RGB mosaic of one row, its ground truth and, where given, ``predictions``
    (key ego)."""
    frame = index[row]
    return mosaic(
        camera_views(frame, dataroot),
        truth=true_boxes(index.annotations(row)),
        predictions=predictions,
        title=title_of(frame),
    )


def title_of(frame: Frame) -> str:
    """Which sample it is, in a line."""
    seconds = frame.timestamp / 1e6
    return f"{frame.scene_name}   sample {frame.sample_token}   t = {seconds:.2f} s"
