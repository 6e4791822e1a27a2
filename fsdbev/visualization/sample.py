"""Camera views, ground truth, trails and mosaics of the samples of a data set.

Shapes: K points of a trail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.structures import Boxes3D, Cameras, LabelledBoxes, invert, transform_points

from .bev_view import BEVArea
from .mosaic import mosaic
from .views import CameraView

#: Objects that moved less than this get no trail, metres: annotations of still objects jitter less.
_MIN_TRAIL_EXTENT = 1.0


def choose_rows(index: FrameIndex, count: int) -> list[int]:
    """Returns ``count`` rows spread evenly over the index, or all rows if there are fewer.

    Raises:
        ValueError: ``count`` is less than 1.
    """
    if count < 1:
        raise ValueError(f"the number of samples must be at least 1, got {count}")
    return sorted({int(row) for row in np.linspace(0, len(index) - 1, min(count, len(index)))})


def rows_of(index: FrameIndex, sample_tokens: Sequence[str]) -> list[int]:
    """Returns the rows of the samples with these tokens, in the order of the tokens.

    Raises:
        ValueError: the index has no sample with one of the tokens.
    """
    rows = {token: row for row, token in enumerate(index.sample_tokens)}
    unknown = [token for token in sample_tokens if token not in rows]
    if unknown:
        raise ValueError(
            f"{index.path} has no samples {unknown}; one that it has is {next(iter(rows))}"
        )
    return [rows[token] for token in sample_tokens]


def rows_of_scene(index: FrameIndex, name: str) -> list[int]:
    """Returns the rows of a scene's samples in time order.

    Raises:
        ValueError: the index has no scene of this name.
    """
    rows = index.rows_of_scene(name)
    if not rows:
        known = ", ".join(index.scene_names)
        raise ValueError(f"{index.path} has no scene {name!r}; it has {known}")
    return rows


def past_trajectories(dataset: FrameDataset, row: int, samples: int = 8) -> list[np.ndarray]:
    """Computes the past trajectories of the ego and of the annotated objects.

    Args:
        dataset: data set with annotations.
        row: row of the current sample.
        samples: number of earlier samples to look back at most.

    Returns:
        (K, 2) x, y of each trajectory in the current sample's key ego, metres, the latest point
        last. Objects that stood still have none.
    """
    rows, index = [row], dataset.index
    for _ in range(samples):
        # At the start of a scene and after a gap in time the row itself.
        rows.append(index.frame_rows(rows[-1], 2)[1])
    global2key = np.linalg.inv(index[row].key_ego2global)
    trails: dict[str | None, list[np.ndarray]] = {}  # by instance token; None is the ego
    for earlier in sorted(set(rows)):
        ego2key, objects = global2key @ index[earlier].key_ego2global, dataset.annotations(earlier)
        trails.setdefault(None, []).append(ego2key[:2, 3])
        centers = transform_points(objects.center, ego2key)
        for token, center in zip(objects.instance_tokens, centers, strict=True):
            trails.setdefault(token, []).append(center[:2])
    trails.pop("", None)  # objects without identity share the empty token
    found = [np.stack(points) for points in trails.values()]
    return [points for points in found if np.ptp(points, axis=0).max() >= _MIN_TRAIL_EXTENT]


def camera_views(dataset: FrameDataset, frame: Frame) -> list[CameraView]:
    """Reads the rectified images of a sample and pairs them with their calibration."""
    global2keyego = invert(torch.tensor(frame.key_ego2global))
    cam2keyego = global2keyego @ torch.tensor(frame.ego2global @ frame.cam2ego)
    intrinsics = torch.tensor(frame.intrinsics)
    return [
        CameraView(name, dataset.image(frame, i), cam2keyego[i], intrinsics[i])
        for i, name in enumerate(frame.channels)
    ]


def network_views(sample: dict[str, Any], names: Sequence[str] | None = None) -> list[CameraView]:
    """Returns the network images of a sample dict's key frame as camera views.

    Their calibration includes all augmentation, so that boxes in the BEV frame project onto the
    objects in these images.

    Args:
        sample: sample dict in the format of ``MultiViewMapper``.
        names: names of the cameras in the sample's order; None numbers the cameras.
    """
    cameras = Cameras.from_samples([sample])
    cam2bev = cameras.bev_aug @ cameras.cam2keyego[0]
    images = torch.as_tensor(sample["images"])[0].cpu()
    names = [f"camera {i}" for i in range(len(images))] if names is None else names
    views = []
    for i, (name, image) in enumerate(zip(names, images, strict=True)):
        # Takes (u d, v d, d) of the original image to that of the network image, whose depth is
        # scaled by image_aug[2, 2] (docs/model.md, "Training data").
        image_aug = cameras.image_aug[i]
        image2network = image_aug[[0, 1, 3]][:, [0, 1, 3]] * image_aug[2, 2]
        pixels = image.permute(1, 2, 0).to(torch.uint8).numpy()
        intrinsics = image2network @ cameras.intrinsics[0, i]
        views.append(CameraView(name, pixels, cam2bev[i], intrinsics))
    return views


def true_boxes(annotations: Annotations) -> LabelledBoxes:
    """Returns the boxes of objects with LiDAR or radar points, the ones that evaluation uses."""
    return boxes_of(annotations.select(annotations.has_points))


def boxes_of(annotations: Annotations) -> LabelledBoxes:
    """Returns the boxes of all annotated objects, in key ego."""
    labels = torch.from_numpy(annotations.class_ids.astype(np.int64))
    return LabelledBoxes(Boxes3D(torch.from_numpy(annotations.boxes)), labels)


def draw_sample(
    dataset: FrameDataset,
    row: int,
    predictions: LabelledBoxes | None = None,
    *,
    trails: bool = False,
    area: BEVArea | None = None,
) -> np.ndarray:
    """Draws the mosaic of one row with its ground truth.

    Args:
        dataset: data set of the sample.
        row: row of the sample.
        predictions: predicted boxes in key ego, drawn over the ground truth.
        trails: whether past trajectories are drawn.
        area: the area that the BEV view shows; None takes that of the classes' ranges.

    Returns:
        (H, W, 3) uint8 RGB image.
    """
    frame, classes = dataset.frame(row), dataset.classes
    return mosaic(
        camera_views(dataset, frame),
        class_names=classes.names,
        area=BEVArea.of_classes(classes) if area is None else area,
        truth=true_boxes(dataset.annotations(row)),
        predictions=predictions,
        trails=past_trajectories(dataset, row) if trails else (),
        title=title_of(frame),
    )


def title_of(frame: Frame) -> str:
    """Returns scene, token and time of a sample as one line."""
    seconds = frame.timestamp / 1e6
    return f"{frame.scene_name}   sample {frame.sample_token}   t = {seconds:.2f} s"
