"""What training sees of a row of a data set: as it is stored, and as the mapper augments it."""

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
    """A row as it is stored: original images, points where the label file has them, heatmaps of the
    original images. Of the mapper only grid and strategies of intensification count."""
    frame, seen, pointless = _row(dataset, row)
    cameras, labels = camera_views(frame, dataset.dataroot), dataset.point_labels(frame)
    views = []
    for i, (boxes, class_ids) in enumerate(zip(*annotated_boxes(frame, seen), strict=True)):
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
    return TrainingSample(title, views, boxes_of(seen), boxes_of(pointless), mapper.grid)


def augmented_sample(
    dataset: FrameDataset, row: int, mapper: MultiViewMapper, seed: int
) -> TrainingSample:
    """A row's key frame as the network gets it: images, depth, foreground and heatmaps that the
    mapper made, boxes through its BEV transform.

    Args:
        mapper: with ``training=True``.
        seed: of the augmentation, with the row's number; not negative.
    """
    if seed < 0:
        raise ValueError(f"the seed of the augmentation must not be negative, got {seed}")
    sample = mapper(dataset, row, np.random.default_rng((seed, row)))
    # The maps hold neither class nor group. The same sample with these in place of the depth does.
    coded = _CodedDataset(dataset.name, dataset.index, dataset.dataroot, dataset.label_dir)
    codes = mapper(coded, row, np.random.default_rng((seed, row)))["gt_depth"][0].numpy()
    frame, seen, pointless = _row(dataset, row)
    cameras, views = network_views(sample, frame.channels), []
    for i, (boxes, class_ids) in enumerate(zip(*annotated_boxes(frame, seen), strict=True)):
        image_aug = sample["image_aug"][i].double().numpy()
        depth, foreground = sample["gt_depth"][0, i].numpy(), sample["gt_foreground"][0, i].numpy()
        view = TargetView(
            cameras[i],
            _map_points(depth, foreground, np.rint(codes[i] / image_aug[2, 2]).astype(int)),
            sample["gt_heatmap"][i].numpy(),
            outlines=_outlines(boxes, image_aug),
            outline_labels=class_ids,
            source=_source(frame, i, image_aug),
        )
        views.append(view)
    boxes = LabelledBoxes(sample["instances"].gt_boxes_3d, sample["instances"].gt_classes)
    others = boxes_of(pointless)
    others = replace(others, boxes=others.boxes.transformed(sample["bev_aug"]))
    title = f"{title_of(frame)}   augmented, seed {seed}"
    return TrainingSample(title, views, boxes, others, mapper.grid)


def labelled_sample(dataset: FrameDataset, row: int, mapper: MultiViewMapper) -> dict[str, Any]:
    """The sample dict of evaluation, with true boxes and with labels of depth and foreground, each
    where the data set has them of all its frames."""
    mapper = copy(mapper)
    mapper.with_boxes = bool(dataset.index.num_annotations)
    rows = dataset.index.frame_rows(row, mapper.num_frames, mapper.frame_spacing)
    mapper.with_labels = dataset.label_dir is not None and all(
        label_path(dataset.label_dir, dataset.index[r].sample_token).is_file() for r in rows
    )
    return mapper(dataset, row)


def _row(dataset: FrameDataset, row: int) -> tuple[Frame, Annotations, Annotations]:
    """A sample, its objects that LiDAR or radar hit, and the others."""
    if not dataset.index.num_annotations:
        raise ValueError(
            f"{dataset.index.path} has no annotations, so that nothing can be trained with it; "
            "draw a split that has some"
        )
    annotations = dataset.index.annotations(row)
    hit = annotations.has_points
    return dataset.index[row], annotations.select(hit), annotations.select(~hit)


def _outlines(boxes: np.ndarray, image_aug: np.ndarray) -> np.ndarray:
    """(K, 4) x1, y1, x2, y2 -> (K, 4, 2) corners in order around them, through ``image_aug``."""
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    return corners @ image_aug[:2, :2].T + image_aug[:2, 3]


def _source(frame: Frame, camera: int, image_aug: np.ndarray) -> np.ndarray:
    """(4, 2) where the corners of the original image are."""
    return _outlines(np.array([[0, 0, *frame.image_sizes[camera]]]), image_aug)[0]


class _CodedDataset(FrameDataset):
    """The same data set with a number in place of each label's depth that says class and group."""

    def point_labels(self, frame: Frame) -> list[PointLabels]:
        return [_coded(labels) for labels in super().point_labels(frame)]


def _coded(labels: PointLabels) -> PointLabels:
    groups = (
        replace(group, depth=_code(group.class_ids, number))
        for number, group in enumerate(labels.groups)
    )
    return PointLabels(*groups)


def _code(class_ids: np.ndarray, group: int) -> np.ndarray:
    """Positive float32 numbers, as maps have 0 where there is no point."""
    return (class_ids.astype(np.float32) - BACKGROUND) * len(GROUPS) + group + 1


def _decode(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole codes -> class ids, groups."""
    class_ids, groups = np.divmod(codes - 1, len(GROUPS))
    return class_ids + BACKGROUND, groups


def _label_points(labels: PointLabels, mapper: MultiViewMapper) -> LabelPoints:
    """The labels that this mapper takes, where the file has them."""
    points, coded = labels.select(**mapper.strategies), _coded(labels).select(**mapper.strategies)
    uv = np.stack([points.u, points.v], axis=1)
    return LabelPoints(uv, points.depth, *_decode(coded.depth.astype(np.int64)))


def _map_points(depth: np.ndarray, foreground: np.ndarray, codes: np.ndarray) -> LabelPoints:
    """The labelled pixels of (H, W) maps, at the pixels' middle."""
    rows, columns = np.nonzero(depth)
    class_ids, groups = _decode(codes[rows, columns])
    return LabelPoints(
        uv=np.stack([columns, rows], axis=1) + 0.5,
        depth=depth[rows, columns],
        class_ids=np.where(foreground[rows, columns], class_ids, BACKGROUND),
        groups=groups,
    )
