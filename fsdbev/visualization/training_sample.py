"""Training targets of a row of a data set, as stored or as augmented by the mapper.

Shapes: K 2D boxes, (H, W) image.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.labels.point_labels import BACKGROUND, GROUPS, PointLabels, label_path
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.transforms.foreground_targets import annotated_boxes, heatmaps
from fsdbev.structures import CLASS_NAMES, LabelledBoxes

from .sample import boxes_of, camera_views, network_views, title_of
from .views import LabelPoints, TargetView, TrainingSample


def stored_sample(dataset: FrameDataset, row: int, mapper: MultiViewMapper) -> TrainingSample:
    """Reads the targets of a row as stored: original images, point labels and heatmaps.

    Args:
        dataset: data set with annotations and point labels.
        row: row of the sample.
        mapper: provides the BEV grid and the strategies of point cloud intensification; its
            augmentation is not used.

    Raises:
        ValueError: the data set has no annotations.
    """
    frame, targets, boxes_without_points = _frame_and_objects(dataset, row)
    cameras, labels = camera_views(frame, dataset.dataroot), dataset.point_labels(frame)
    views = []
    for i, (boxes, class_ids) in enumerate(zip(*annotated_boxes(frame, targets), strict=True)):
        width, height = frame.image_sizes[i].tolist()
        heatmap = heatmaps(
            [boxes],
            [class_ids],
            np.eye(4)[None],
            frame.image_sizes[i : i + 1],
            num_classes=len(CLASS_NAMES),
            image_size=(height, width),
        )
        view = TargetView(
            cameras[i],
            _label_points(labels[i], mapper),
            heatmap[0].numpy(),
            outlines=_outlines(boxes, np.eye(4)),
            outline_labels=class_ids,
            source=_source(frame, i, np.eye(4)),
        )
        views.append(view)
    title = f"{title_of(frame)}   as stored"
    return TrainingSample(
        title, views, boxes_of(targets), boxes_of(boxes_without_points), mapper.grid
    )


def augmented_sample(
    dataset: FrameDataset, row: int, mapper: MultiViewMapper, seed: int
) -> TrainingSample:
    """Makes the targets of a row's key frame with the mapper's augmentation, as in training.

    Args:
        dataset: data set with annotations and point labels.
        row: row of the sample.
        mapper: mapper with ``training=True``.
        seed: seeds the augmentation together with the row; not negative.

    Raises:
        ValueError: the seed is negative, or the data set has no annotations.
    """
    if seed < 0:
        raise ValueError(f"the seed of the augmentation must not be negative, got {seed}")
    sample = mapper(dataset, row, np.random.default_rng((seed, row)))
    # The mapper's maps have neither class nor group. A second pass with the same random draws maps
    # a code of both in place of the depth.
    coded = _CodedDataset(dataset.name, dataset.index, dataset.dataroot, dataset.label_dir)
    codes = mapper(coded, row, np.random.default_rng((seed, row)))["gt_depth"][0].numpy()
    frame, targets, boxes_without_points = _frame_and_objects(dataset, row)
    cameras, views = network_views(sample, frame.channels), []
    for i, (boxes, class_ids) in enumerate(zip(*annotated_boxes(frame, targets), strict=True)):
        image_aug = sample["image_aug"][i].double().numpy()
        depth, foreground = sample["gt_depth"][0, i].numpy(), sample["gt_foreground"][0, i].numpy()
        # The mapper multiplied the codes by the depth scale too.
        # The division leaves rounding errors in the codes, which are integers.
        unscaled = np.rint(codes[i] / image_aug[2, 2]).astype(int)
        view = TargetView(
            cameras[i],
            _map_points(depth, foreground, unscaled),
            sample["gt_heatmap"][i].numpy(),
            outlines=_outlines(boxes, image_aug),
            outline_labels=class_ids,
            source=_source(frame, i, image_aug),
        )
        views.append(view)
    boxes = LabelledBoxes(sample["instances"].gt_boxes_3d, sample["instances"].gt_classes)
    others = boxes_of(boxes_without_points)
    others = replace(others, boxes=others.boxes.transformed(sample["bev_aug"]))
    title = f"{title_of(frame)}   augmented, seed {seed}"
    return TrainingSample(title, views, boxes, others, mapper.grid)


def labelled_sample(dataset: FrameDataset, row: int, mapper: MultiViewMapper) -> dict[str, Any]:
    """Returns the evaluation sample of a row with ground truth.

    Adds boxes if the data set has annotations, and depth and foreground labels if it has point
    labels for all frames of the sample.
    """
    mapper = copy(mapper)  # the caller's mapper keeps its flags
    mapper.with_boxes = bool(dataset.index.num_annotations)
    rows = dataset.index.frame_rows(row, mapper.num_frames, mapper.frame_spacing)
    mapper.with_labels = dataset.label_dir is not None and all(
        label_path(dataset.label_dir, dataset.index[r].sample_token).is_file() for r in rows
    )
    return mapper(dataset, row)


def _frame_and_objects(dataset: FrameDataset, row: int) -> tuple[Frame, Annotations, Annotations]:
    """Returns the frame of a row, its objects with LiDAR or radar points, and those without."""
    if not dataset.index.num_annotations:
        raise ValueError(
            f"{dataset.index.path} has no annotations and cannot be used for training; draw a "
            "split with annotations"
        )
    annotations = dataset.index.annotations(row)
    hit = annotations.has_points
    return dataset.index[row], annotations.select(hit), annotations.select(~hit)


def _outlines(boxes: np.ndarray, image_aug: np.ndarray) -> np.ndarray:
    """Converts (K, 4) x1, y1, x2, y2 to (K, 4, 2) ordered corners, transformed by ``image_aug``."""
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    return corners @ image_aug[:2, :2].T + image_aug[:2, 3]


def _source(frame: Frame, camera: int, image_aug: np.ndarray) -> np.ndarray:
    """Returns the (4, 2) corners of the original image, transformed by ``image_aug``."""
    return _outlines(np.array([[0, 0, *frame.image_sizes[camera]]]), image_aug)[0]


class _CodedDataset(FrameDataset):
    """Data set whose point labels have a code of class and group in place of the depth."""

    def point_labels(self, frame: Frame) -> list[PointLabels]:
        return [_coded(labels) for labels in super().point_labels(frame)]


def _coded(labels: PointLabels) -> PointLabels:
    groups = (
        replace(group, depth=_code(group.class_ids, number))
        for number, group in enumerate(labels.groups)
    )
    return PointLabels(*groups)


def _code(class_ids: np.ndarray, group: int) -> np.ndarray:
    """Encodes class and group as positive float32 numbers, since 0 in a map means no point."""
    return (class_ids.astype(np.float32) - BACKGROUND) * len(GROUPS) + group + 1


def _decode(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decodes integer codes to class indices and groups."""
    class_ids, groups = np.divmod(codes - 1, len(GROUPS))
    return class_ids + BACKGROUND, groups


def _label_points(labels: PointLabels, mapper: MultiViewMapper) -> LabelPoints:
    """Returns the stored labels of one camera that the mapper's strategies use."""
    points, coded = labels.select(**mapper.strategies), _coded(labels).select(**mapper.strategies)
    uv = np.stack([points.u, points.v], axis=1)
    return LabelPoints(uv, points.depth, *_decode(coded.depth.astype(np.int64)))


def _map_points(depth: np.ndarray, foreground: np.ndarray, codes: np.ndarray) -> LabelPoints:
    """Returns the labelled pixels of (H, W) maps as points at the pixel centres."""
    rows, columns = np.nonzero(depth)
    class_ids, groups = _decode(codes[rows, columns])
    return LabelPoints(
        uv=np.stack([columns, rows], axis=1) + 0.5,
        depth=depth[rows, columns],
        class_ids=np.where(foreground[rows, columns], class_ids, BACKGROUND),
        groups=groups,
    )
