"""Training targets of a row of a data set, as stored or as augmented by the mapper.

Shapes: K 2D boxes, (H, W) image.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.labels.point_labels import BACKGROUND, GROUPS, PointLabels, label_path
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.transforms.foreground_targets import annotated_boxes, depth_maps, heatmaps
from fsdbev.structures import DepthBins, LabelledBoxes

from .sample import boxes_of, camera_views, network_views, title_of
from .views import LabelPoints, TargetView, TrainingSample


def stored_sample(dataset: FrameDataset, row: int, mapper: MultiViewMapper) -> TrainingSample:
    """Reads the targets of a row as stored: original images, point labels and heatmaps.

    Args:
        dataset: data set with annotations and point labels.
        row: row of the sample.
        mapper: provides the BEV grid, the depth bins and the strategies of point cloud
            intensification; its augmentation is not used.

    Raises:
        ValueError: the data set has no annotations.
    """
    frame, targets, boxes_without_points = _frame_and_objects(dataset, row)
    cameras, labels = camera_views(dataset, frame), _labels(dataset, frame, mapper)
    views = []
    for i, (boxes, class_ids) in enumerate(zip(*annotated_boxes(frame, targets), strict=True)):
        width, height = frame.image_sizes[i].tolist()
        heatmap = heatmaps(
            [boxes],
            [class_ids],
            np.eye(4)[None],
            frame.image_sizes[i : i + 1],
            num_classes=len(dataset.classes),
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
    boxes, others = boxes_of(targets), boxes_of(boxes_without_points)
    return _training_sample(f"{title_of(frame)}   as stored", views, boxes, others, dataset, mapper)


def augmented_sample(
    dataset: FrameDataset, row: int, mapper: MultiViewMapper, seed: int
) -> TrainingSample:
    """Makes the targets of a row's key frame with the mapper's augmentation, as in training, but
    without dropout of cameras.

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
    mapper = copy(mapper)  # the caller's mapper keeps its dropout
    mapper.camera_dropout = 0.0
    sample = mapper(dataset, row, np.random.default_rng((seed, row)))
    codes = _code_maps(dataset, dataset.frame(row), mapper, sample["image_aug"].numpy())
    frame, targets, boxes_without_points = _frame_and_objects(dataset, row)
    cameras, views = network_views(sample, frame.channels), []
    for i, (boxes, class_ids) in enumerate(zip(*annotated_boxes(frame, targets), strict=True)):
        image_aug = sample["image_aug"][i].double().numpy()
        depth, foreground = sample["gt_depth"][0, i].numpy(), sample["gt_foreground"][0, i].numpy()
        view = TargetView(
            cameras[i],
            _map_points(depth, foreground, codes[i]),
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
    return _training_sample(title, views, boxes, others, dataset, mapper)


def _training_sample(
    title: str,
    views: list[TargetView],
    boxes: LabelledBoxes,
    boxes_without_points: LabelledBoxes,
    dataset: FrameDataset,
    mapper: MultiViewMapper,
) -> TrainingSample:
    """Adds the names of the data set's classes, and grid and depth bins of the mapper."""
    bins = mapper.depth_bins or DepthBins()
    return TrainingSample(
        title,
        views,
        boxes,
        boxes_without_points,
        class_names=dataset.classes.names,
        grid=mapper.grid,
        depth_range=(bins.start, bins.stop),
    )


def labelled_sample(dataset: FrameDataset, row: int, mapper: MultiViewMapper) -> dict[str, Any]:
    """Returns the evaluation sample of a row with ground truth.

    Adds boxes if the data set has annotations, and depth and foreground labels if it has point
    labels for all frames of the sample.
    """
    mapper = copy(mapper)  # the caller's mapper keeps its flags
    mapper.with_boxes = bool(dataset.index.num_annotations)
    rows = dataset.index.frame_rows(row, **mapper.frame_rule)
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
    annotations = dataset.annotations(row)
    hit = annotations.has_points
    return dataset.frame(row), annotations.select(hit), annotations.select(~hit)


def _outlines(boxes: np.ndarray, image_aug: np.ndarray) -> np.ndarray:
    """Converts (K, 4) x1, y1, x2, y2 to (K, 4, 2) ordered corners, transformed by ``image_aug``."""
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    return corners @ image_aug[:2, :2].T + image_aug[:2, 3]


def _source(frame: Frame, camera: int, image_aug: np.ndarray) -> np.ndarray:
    """Returns the (4, 2) corners of the original image, transformed by ``image_aug``."""
    return _outlines(np.array([[0, 0, *frame.image_sizes[camera]]]), image_aug)[0]


def _labels(
    dataset: FrameDataset,
    frame: Frame,
    mapper: MultiViewMapper,
    depth_scales: Sequence[float] | None = None,
) -> list[PointLabels]:
    """Returns the point labels of each camera that the mapper uses, by the factors on the depth."""
    labels = dataset.point_labels(frame)
    if mapper.depth_bins is None:
        return labels
    scales = [1.0] * len(labels) if depth_scales is None else depth_scales
    pairs = zip(labels, scales, strict=True)
    return [each.within_bins(mapper.depth_bins, scale) for each, scale in pairs]


def _code_maps(
    dataset: FrameDataset, frame: Frame, mapper: MultiViewMapper, image_aug: np.ndarray
) -> np.ndarray:
    """Maps a code of class and group in place of the depth, which the mapper's maps lack.

    Args:
        dataset, frame: a sample with point labels.
        mapper: mapper of the sample.
        image_aug: (N, 4, 4) image transforms that the mapper drew.

    Returns:
        (N, H, W) int codes, 0 without a point; the pixels are those of the mapper's depth maps.
    """
    labels = _labels(dataset, frame, mapper, image_aug[:, 2, 2])
    points = [_coded(each).select(**mapper.strategies) for each in labels]
    unscaled = image_aug.copy()
    unscaled[:, 2, 2] = 1  # codes must not be multiplied by the depth scale
    return depth_maps(points, unscaled, mapper.image_size)[0].numpy().astype(int)


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
