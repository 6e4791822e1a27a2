"""Maps a row of a data set to the sample dict that the model takes.

Shapes: T frames (0 is the key frame), N cameras of the sample, C classes, M boxes, H x W network
image.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.structures import BEVGrid, Boxes3D, DepthBins

from .dataset import FrameDataset
from .index.frame_index import MAX_FRAME_GAP
from .index.records import Annotations, Frame, rig_text
from .index.validation import SAME_RIG
from .labels.point_labels import MAX_LABEL_DEPTH
from .labels.sweeps import MIN_DEPTH
from .transforms.bev_aug import BEVAugmentation
from .transforms.foreground_targets import annotated_boxes, depth_maps, heatmaps
from .transforms.image_aug import ImageAugmentation, ImageTransform
from .transforms.photometric import PixelAugmentation, augment_pixels

logger = logging.getLogger(__name__)


class MultiViewMapper:
    """Loads and augments the T frames of a sample and computes its training targets.

    The sample dict (docs/model.md, "Inputs and outputs") has these entries:

    - ``images``: (T, N, 3, H, W) uint8 RGB.
    - ``cam2ego``, ``ego2global``: (T, N, 4, 4) float64; ``intrinsics``: (T, N, 3, 3) float64.
    - ``image_aug``: (N, 4, 4) float32; ``bev_aug``: (4, 4) float32.
    - ``key_ego2global``: (4, 4) float64, pose of the index's reference camera, which may be left
      out of the N cameras.
    - ``sample_token``, ``scene_token``, ``timestamp`` of the key frame.
    - ``frame_tokens``: the sample tokens of the T frames.

    In training also these targets (docs/model.md, "Training data"):

    - ``gt_depth``: (T, N, H, W) float32, metres times the depth scale; 0 without a point.
    - ``gt_foreground``: (T, N, H, W) bool.
    - ``gt_heatmap``: (N, C, H/4, W/4) float32, of the key frame.
    - ``instances``: ``gt_boxes_3d`` in the augmented key ego frame, and ``gt_classes``.

    Args:
        image_aug: draws the image transforms and defines the network image size.
        bev_aug: draws the BEV transforms.
        grid: in training, boxes whose centre is outside its x or y range are dropped.
        num_frames: T.
        frame_spacing: distance between two consecutive frames, in samples.
        frame_interval: distance between two consecutive frames in seconds instead, for recordings
            with other or irregular rates; see ``FrameIndex.frame_rows``.
        max_frame_gap: without ``frame_interval``, the largest distance in time of a frame from the
            key frame, as a multiple of its median in the index; infinity for no limit.
        depth_bins: depth bins of the model, outside of which pseudo points are dropped; None keeps
            all.
        camera_dropout: in training, probability with which a camera of a sample is left out, for
            each camera; at least one stays. Objects that only the others see are no targets.
        reduced_decoding: decodes JPEG images at a half, a quarter or an eighth of their size where
            the resized image is not larger: faster, with slightly other pixels.
        training: random augmentation and targets; otherwise the fixed transforms and no targets.
        frame_combination, pseudo_points: the strategies of point cloud intensification (FSD-BEV,
            arXiv:2407.10135, section 3.3) that depth and foreground targets use.
        with_boxes: adds ``instances`` outside of training, for visualization.
        with_labels: adds all other targets outside of training, for visualization.
        augmentations: functions that are applied to the network images in training, in this order:
            (H, W, 3) uint8 RGB -> (H, W, 3) uint8 RGB, such as ``ColorJitter``. They do not move
            pixels, because the targets do not change. They may draw from the global generators of
            Python, NumPy and PyTorch, which are seeded by the sample's generator. Each camera has
            its own seed, which its T frames share, like the image transform.

    Raises:
        ValueError: ``num_frames``, ``frame_spacing`` or ``max_frame_gap`` is below 1,
            ``frame_interval`` is not positive, ``camera_dropout`` is not within [0, 1), an
            augmentation is not callable, or ``bev_aug`` flips an axis whose range of the grid is
            not symmetric.
    """

    def __init__(
        self,
        *,
        image_aug: ImageAugmentation,
        bev_aug: BEVAugmentation,
        grid: BEVGrid,
        training: bool,
        num_frames: int = 2,
        frame_spacing: int = 1,
        frame_interval: float | None = None,
        max_frame_gap: float = MAX_FRAME_GAP,
        depth_bins: DepthBins | None = None,
        camera_dropout: float = 0.0,
        reduced_decoding: bool = False,
        frame_combination: bool = True,
        pseudo_points: bool = True,
        with_boxes: bool = False,
        with_labels: bool = False,
        augmentations: Sequence[PixelAugmentation] = (),
    ) -> None:
        if num_frames < 1 or frame_spacing < 1:
            raise ValueError(
                f"num_frames and frame_spacing must be at least 1, got {num_frames} and "
                f"{frame_spacing}"
            )
        if training:
            grid.check_flips(bev_aug.flip_prob, "dataloader.bev_aug.flip_prob")
        if frame_interval is not None and not frame_interval > 0:
            raise ValueError(f"frame_interval must be positive seconds, got {frame_interval}")
        if not max_frame_gap >= 1:
            raise ValueError(f"max_frame_gap must be at least 1 (inf: any), got {max_frame_gap}")
        if not 0 <= camera_dropout < 1:
            raise ValueError(f"camera_dropout must be within [0, 1), got {camera_dropout}")
        for augmentation in augmentations:
            # omegaconf's lists turn dataclass instances into mappings.
            if not callable(augmentation):
                raise ValueError(
                    "augmentations must be functions or instances of classes with __call__, in a "
                    f"config not of dataclasses, got {augmentation!r}"
                )
        if depth_bins is not None and (
            depth_bins.start < MIN_DEPTH or depth_bins.stop > MAX_LABEL_DEPTH
        ):
            logger.warning(
                "Depth labels are from %g m to %g m: bins of %g m to %g m have none beyond",
                *(MIN_DEPTH, MAX_LABEL_DEPTH, depth_bins.start, depth_bins.stop),
            )
        self.image_aug = image_aug
        self.bev_aug = bev_aug
        self.grid = grid
        self.training = training
        self.num_frames = num_frames
        self.frame_spacing = frame_spacing
        self.frame_interval = frame_interval
        self.max_frame_gap = max_frame_gap
        self.depth_bins = depth_bins
        self.camera_dropout = camera_dropout
        self.reduced_decoding = reduced_decoding
        self.frame_combination = frame_combination
        self.pseudo_points = pseudo_points
        self.with_boxes = with_boxes
        self.with_labels = with_labels
        self.augmentations = tuple(augmentations)

    def __call__(
        self, dataset: FrameDataset, row: int, generator: np.random.Generator | None = None
    ) -> dict[str, Any]:
        """Returns the sample dict of a row.

        Args:
            dataset: a prepared data set.
            row: row of the key frame in the index.
            generator: source of all random numbers; needed in training only.

        Raises:
            FileNotFoundError, ValueError: an image or label file is missing or damaged; also
                ValueError if the frames have different cameras or image sizes, training lacks a
                generator, or an augmentation returns something else than an image of the same size.
        """
        if self.training and generator is None:
            raise ValueError("a training sample needs a random generator")
        rows = dataset.index.frame_rows(row, **self.frame_rule)
        frames = [dataset.frame(r) for r in rows]
        rigs = [rig_text(frame.channels, frame.image_sizes) for frame in frames]
        for frame, rig in zip(frames, rigs, strict=True):
            # An index ensures it; a data set of one's own may return other frames.
            if rig != rigs[0]:
                raise ValueError(
                    f"sample {frame.sample_token} has cameras {rig}, but its scene's sample "
                    f"{frames[0].sample_token} has {rigs[0]}; {SAME_RIG}"
                )
        # The order of the draws (left-out cameras, cameras in turn, then BEV, then seeds for the
        # pixels) defines the augmentation of a seed. The model takes one image_aug per camera, so
        # that all frames share it.
        if self.training and self.camera_dropout:
            channels = self._kept_cameras(frames[0].channels, generator)
            frames = [frame.select(channels) for frame in frames]
        key = frames[0]
        transforms = self._image_transforms(key, generator)
        image_aug = np.stack([transform.matrix() for transform in transforms])
        bev_aug = self.bev_aug.sample(generator) if self.training else np.eye(4)
        seeds = None
        if self.training and self.augmentations:
            seeds = generator.integers(2**32, size=len(transforms)).tolist()
        images = self._images(dataset, frames, transforms, seeds)
        sample = make_sample(frames, images, image_aug=image_aug, bev_aug=bev_aug)
        if self.training or self.with_boxes or self.with_labels:
            sample |= self._targets(dataset, row, frames, image_aug, sample["bev_aug"])
        return sample

    def _targets(
        self,
        dataset: FrameDataset,
        row: int,
        frames: Sequence[Frame],
        image_aug: NDArray[np.float64],
        bev_aug: Tensor,
    ) -> dict[str, Any]:
        # Only dropout leaves out other cameras than the data set does.
        cameras = frames[0].channels if self.camera_dropout else None
        annotations = dataset.annotations(row, cameras)
        # Same rule as nuScenes' metrics, which ignore objects without LiDAR and radar points.
        annotations = annotations.select(annotations.has_points)
        targets = {}
        if self.training or self.with_boxes:
            targets["instances"] = self._instances(annotations, bev_aug)
        if self.training or self.with_labels:
            targets["gt_depth"], targets["gt_foreground"] = self._depth(dataset, frames, image_aug)
            targets["gt_heatmap"] = self._heatmaps(
                frames[0], annotations, image_aug, len(dataset.classes)
            )
        return targets

    def _kept_cameras(self, channels: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Draws the cameras of a sample, in their order."""
        draws = generator.random(len(channels))
        kept = draws >= self.camera_dropout
        # Without a camera left, the one with the largest draw stays.
        kept[np.argmax(draws)] = True
        return [name for name, keep in zip(channels, kept, strict=True) if keep]

    @property
    def frame_rule(self) -> dict[str, Any]:
        """Keyword arguments for ``FrameIndex.frame_rows``."""
        return {
            "num_frames": self.num_frames,
            "spacing": self.frame_spacing,
            "interval": self.frame_interval,
            "max_gap": self.max_frame_gap,
        }

    @property
    def strategies(self) -> dict[str, bool]:
        """Keyword arguments for ``PointLabels.select``."""
        return {"frame_combination": self.frame_combination, "pseudo_points": self.pseudo_points}

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the network image."""
        return self.image_aug.image_size

    def _image_transforms(
        self, key: Frame, generator: np.random.Generator | None
    ) -> list[ImageTransform]:
        if self.training:
            return [self.image_aug.sample(size, generator) for size in key.image_sizes]
        return [self.image_aug.fixed(size) for size in key.image_sizes]

    def _images(
        self,
        dataset: FrameDataset,
        frames: Sequence[Frame],
        transforms: Sequence[ImageTransform],
        seeds: Sequence[int] | None,
    ) -> Tensor:
        """Loads the (T, N, 3, H, W) images; ``seeds``, one per camera, are of the augmentations."""
        images = np.empty((len(frames), len(transforms), 3, *self.image_size), np.uint8)
        for time, frame in enumerate(frames):
            if time and frame.sample_token == frames[0].sample_token:
                # At a scene's start the key frame replaces missing frames; it is decoded once.
                images[time] = images[0]
                continue
            for camera, transform in enumerate(transforms):
                size = {"at_least": transform.resized} if self.reduced_decoding else {}
                image = transform.apply(dataset.image(frame, camera, **size))
                if seeds is not None:
                    image = augment_pixels(image, self.augmentations, seeds[camera])
                images[time, camera] = image
        return torch.from_numpy(images)

    def _depth(
        self, dataset: FrameDataset, frames: Sequence[Frame], image_aug: NDArray[np.float64]
    ) -> tuple[Tensor, Tensor]:
        matrices = np.tile(image_aug, (len(frames), 1, 1))
        labels = [labels for frame in frames for labels in dataset.point_labels(frame)]
        if self.depth_bins is not None:
            scales = matrices[:, 2, 2]
            pairs = zip(labels, scales, strict=True)
            labels = [each.within_bins(self.depth_bins, scale) for each, scale in pairs]
        points = [each.select(**self.strategies) for each in labels]
        maps = depth_maps(points, matrices, self.image_size)
        depth, foreground = (views.unflatten(0, (len(frames), -1)) for views in maps)
        return depth, foreground

    def _heatmaps(
        self,
        key: Frame,
        annotations: Annotations,
        image_aug: NDArray[np.float64],
        num_classes: int,
    ) -> Tensor:
        boxes, class_ids = annotated_boxes(key, annotations)
        return heatmaps(
            boxes,
            class_ids,
            image_aug,
            key.image_sizes,
            num_classes=num_classes,
            image_size=self.image_size,
        )

    def _instances(self, annotations: Annotations, bev_aug: Tensor) -> Instances:
        """Transforms the boxes by ``bev_aug``; training drops those centred outside the grid."""
        boxes = Boxes3D(torch.from_numpy(annotations.boxes)).transformed(bev_aug)
        classes = torch.from_numpy(annotations.class_ids.astype(np.int64))
        if self.training:
            inside = self.grid.contains(boxes.centers)
            boxes, classes = boxes[inside], classes[inside]
        instances = Instances(self.image_size)
        instances.gt_boxes_3d = boxes
        instances.gt_classes = classes
        return instances


def make_sample(
    frames: Sequence[Frame],
    images: Tensor,
    *,
    image_aug: NDArray[np.float64],
    bev_aug: NDArray[np.float64],
) -> dict[str, Any]:
    """Returns the sample dict of T frames without targets, see :class:`MultiViewMapper`.

    Args:
        frames: the T frames, key frame first.
        images: (T, N, 3, H, W) network images.
        image_aug: (N, 4, 4), original image (u, v, depth) -> network image.
        bev_aug: (4, 4), key ego -> augmented key ego.
    """
    key = frames[0]
    return {
        "images": images,
        # float64, in which the model composes cam2keyego (docs/model.md, "Frames of reference").
        "cam2ego": _stacked(frame.cam2ego for frame in frames),
        "ego2global": _stacked(frame.ego2global for frame in frames),
        "intrinsics": _stacked(frame.intrinsics for frame in frames),
        "image_aug": torch.from_numpy(image_aug).float(),
        "bev_aug": torch.from_numpy(bev_aug).float(),
        "key_ego2global": torch.from_numpy(np.array(key.key_ego2global)),
        "sample_token": key.sample_token,
        "scene_token": key.scene_token,
        "timestamp": key.timestamp,
        "frame_tokens": [frame.sample_token for frame in frames],
    }


def _stacked(matrices) -> Tensor:
    """Stacks a (N, ...) array per frame into a (T, N, ...) float64 tensor."""
    return torch.from_numpy(np.stack(list(matrices)))
