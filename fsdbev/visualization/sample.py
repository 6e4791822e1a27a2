"""Pictures of the samples of a frame index, with the boxes of their annotations and others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.structures import Boxes3D, Cameras, LabelledBoxes, invert, transform_points

from .mosaic import REACH, mosaic
from .views import CameraView

_LEAST_WAY = 1.0  # metres; annotations of what stands still move less


def choose_rows(index: FrameIndex, count: int) -> list[int]:
    """``count`` rows spread evenly over the index, all where it has fewer."""
    if count < 1:
        raise ValueError(f"the number of samples must be at least 1, got {count}")
    return sorted({int(row) for row in np.linspace(0, len(index) - 1, min(count, len(index)))})


def rows_of(index: FrameIndex, sample_tokens: Sequence[str]) -> list[int]:
    """Rows of the samples with these tokens, in this order."""
    rows = {token: row for row, token in enumerate(index.sample_tokens)}
    unknown = [token for token in sample_tokens if token not in rows]
    if unknown:
        raise ValueError(
            f"{index.path} holds no samples {unknown}; one it holds is {next(iter(rows))}"
        )
    return [rows[token] for token in sample_tokens]


def rows_of_scene(index: FrameIndex, name: str) -> list[int]:
    """Rows of the scene's samples, in time order."""
    rows = index.rows_of_scene(name)
    if not rows:
        known = ", ".join(index.scene_names)
        raise ValueError(f"{index.path} holds no scene {name!r}; it holds {known}")
    return rows


def trails_of(index: FrameIndex, row: int, samples: int = 8) -> list[np.ndarray]:
    """The ways that the ego and the annotated objects came, over that many samples before the row:
    (K, 2) x, y in its key ego each, metres. What stood still has none."""
    rows = [row]
    while len(rows) <= samples and index[rows[-1]].previous >= 0:
        rows.append(index[rows[-1]].previous)
    global2key = np.linalg.inv(index[row].key_ego2global)
    ways: dict[str | None, list[np.ndarray]] = {}
    for earlier in reversed(rows):
        ego2key, objects = global2key @ index[earlier].key_ego2global, index.annotations(earlier)
        ways.setdefault(None, []).append(ego2key[:2, 3])
        centers = transform_points(objects.center, ego2key)
        for token, center in zip(objects.instance_tokens, centers, strict=True):
            ways.setdefault(token, []).append(center[:2])
    ways.pop("", None)  # objects that nobody told apart
    trails = [np.stack(points) for points in ways.values()]
    return [points for points in trails if np.ptp(points, axis=0).max() >= _LEAST_WAY]


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


def network_views(sample: dict[str, Any], names: Sequence[str] | None = None) -> list[CameraView]:
    """The key frame's network images of a sample dict, with all augmentation in their calibration,
    so that boxes in the BEV frame lie on them. Without ``names`` cameras are numbered."""
    rig = Cameras.from_samples([sample])
    cam2bev = rig.bev_aug @ rig.cam2keyego[0, 0]
    images = torch.as_tensor(sample["images"])[0].cpu()
    names = [f"camera {i}" for i in range(len(images))] if names is None else names
    views = []
    for i, (name, image) in enumerate(zip(names, images, strict=True)):
        # (u d, v d, d) of the original image -> of the network image with scaled depth.
        image_aug = rig.image_aug[0, i]
        image2network = image_aug[[0, 1, 3]][:, [0, 1, 3]] * image_aug[2, 2]
        pixels = image.permute(1, 2, 0).to(torch.uint8).numpy()
        intrinsics = image2network @ rig.intrinsics[0, 0, i]
        views.append(CameraView(name, pixels, cam2bev[i], intrinsics))
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
    *,
    trails: bool = False,
    reach: float = REACH,
) -> np.ndarray:
    """(H, W, 3) uint8 RGB mosaic of one row, its ground truth and, where given, ``predictions``
    (key ego); with ``trails`` the ways that things came; ``reach`` as of
    :func:`mosaic`."""
    frame = index[row]
    return mosaic(
        camera_views(frame, dataroot),
        truth=true_boxes(index.annotations(row)),
        predictions=predictions,
        trails=trails_of(index, row) if trails else (),
        title=title_of(frame),
        reach=reach,
    )


def title_of(frame: Frame) -> str:
    """Which sample it is, in a line."""
    seconds = frame.timestamp / 1e6
    return f"{frame.scene_name}   sample {frame.sample_token}   t = {seconds:.2f} s"
