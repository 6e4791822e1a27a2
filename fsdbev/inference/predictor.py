"""Predictor: 3D detection in the images of any camera rig, without a data set.

Shapes: T frames (0 is the key frame), N cameras, H x W network image.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from omegaconf import DictConfig
from torch import Tensor, nn

from fsdbev.checkpoint import ModelSettings, load_weights
from fsdbev.config.loading import complete_config, load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.index.frame_index import frames_by_time
from fsdbev.data.index.records import Frame
from fsdbev.data.io.image_file import ImageFile
from fsdbev.data.io.rectify import rectify
from fsdbev.data.io.rig_file import read_rig
from fsdbev.data.mapper import make_sample
from fsdbev.inference.model_builder import build_model
from fsdbev.structures import ClassSet, LabelledBoxes, Rig, is_rigid

from .streaming import StreamingPredictor, can_stream

Image = str | os.PathLike | NDArray[np.uint8]


@dataclass(frozen=True)
class _FrameImages:
    """A frame with its (N, 3, H, W) uint8 network images and its time in seconds."""

    frame: Frame
    images: Tensor
    seconds: float


class Predictor:
    """Detects objects in the images of a rig, frame by frame.

        predictor = Predictor("configs/fsdbev_tiny_synthetic.py", "model_final.pth")
        found = predictor({"left": "l.jpg", "front": "f.jpg", "right": "r.jpg"}, "rig.yaml")
        for box in found.at_least(0.3).records(predictor.class_names): ...

    A model of several frames also uses the frames of earlier calls if each call passes the pose of
    the vehicle (``ego2global``). Each frame passes through the image branch once. Call such a model
    at the frame rate of its training data (nuScenes has 0.5 s between frames), and :meth:`reset`
    after an interruption. If its config has ``dataloader.frame_interval``, it may be called at any
    rate, and each call passes ``seconds``.

    Args:
        config: a config file, or a config from ``fsdbev.model_zoo.get_config``.
        weights: a checkpoint in any format that ``train.init_checkpoint`` accepts.
        overrides: changes to the config as ``key=value``; ``train.device=cpu`` selects the device.

    Raises:
        FileNotFoundError, ValueError: config or weights cannot be read, or the weights do not fit
            the model or its settings.
    """

    def __init__(
        self,
        config: str | os.PathLike | DictConfig,
        weights: str | os.PathLike,
        *,
        overrides: Sequence[str] = (),
    ) -> None:
        if isinstance(config, DictConfig):
            cfg = complete_config(config, overrides)
        else:
            cfg = load_config(os.fspath(config), overrides)
        self.model = load_model(cfg, os.fspath(weights))
        self._image_aug = instantiate(cfg.dataloader.test.mapper).image_aug
        self._spacing = int(cfg.dataloader.get("frame_spacing", 1))
        #: Seconds between the frames of a sample; None if they are counted in calls.
        self.frame_interval = cfg.dataloader.get("frame_interval")
        self._network = self.model
        if can_stream(self.model):
            self._network = StreamingPredictor(self.model, frame_spacing=self._spacing)
        self._count = 0
        # The key frame and all frames back to the earliest that a sample uses, latest first.
        self._past_frames: deque[_FrameImages] = deque()

    @property
    def classes(self) -> ClassSet:
        """The classes that the model detects."""
        return self.model.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names that ``labels`` of detected boxes index."""
        return self.classes.names

    def __call__(
        self,
        images: Mapping[str, Image] | Sequence[Image],
        rig: Rig | str | os.PathLike,
        *,
        ego2global: ArrayLike | None = None,
        seconds: float | None = None,
    ) -> LabelledBoxes:
        """Detects the objects of one frame.

        Args:
            images: one image for each camera, by camera name or in the rig's order. An image is a
                file or a (height, width, 3) uint8 RGB array of the size in the rig.
            rig: the camera rig or its rig file.
            ego2global: (4, 4) pose of the vehicle, or (N, 4, 4) poses at the exposure of each
                camera, in any fixed frame of reference; the identity for a rig that does not move.
                Without a pose, earlier frames are dropped and velocities are unreliable.
            seconds: time of the frame, later than that of earlier calls; needed with a pose if the
                config has ``dataloader.frame_interval``.

        Returns:
            Detected boxes on the CPU, in the ego frame (x forward, y left, z up, metres) at the
            exposure of the reference camera.

        Raises:
            FileNotFoundError, ValueError: an image is missing, unreadable or has another size; a
                pose is not a rigid transform; the time is missing or not later; or the cameras
                differ from those of earlier calls, see :meth:`reset`.
        """
        return self.detect(self.sample(images, rig, ego2global=ego2global, seconds=seconds))

    def reset(self) -> None:
        """Drops all earlier frames. Call it before another drive or another rig."""
        self._past_frames.clear()
        if isinstance(self._network, StreamingPredictor):
            self._network.reset()

    def sample(
        self,
        images: Mapping[str, Image] | Sequence[Image],
        rig: Rig | str | os.PathLike,
        *,
        ego2global: ArrayLike | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """Makes the sample dict of the next frame, in the format of ``MultiViewMapper``.

        Arguments and errors are those of a call. The frame is kept for the next calls.
        """
        rig = rig if isinstance(rig, Rig) else read_rig(rig)
        if ego2global is not None and self.frame_interval is not None:
            self._check_time(seconds)
        frame = self._frame(rig, ego2global)
        transforms = [self._image_aug.fixed(size) for size in rig.image_sizes]
        pixels = read_images(images, rig)
        network_images = [t.apply(p) for t, p in zip(transforms, pixels, strict=True)]
        stacked = torch.from_numpy(np.stack(network_images))
        current = _FrameImages(frame, stacked, 0.0 if seconds is None else float(seconds))
        if ego2global is None:
            # Earlier frames cannot be aligned without a pose.
            self.reset()
            used = [current] * self.model.num_frames
        else:
            self._past_frames.appendleft(current)
            used = self._model_frames()
        return make_sample(
            [each.frame for each in used],
            torch.stack([each.images for each in used]),
            image_aug=np.stack([transform.matrix() for transform in transforms]),
            bev_aug=np.eye(4),
        )

    @torch.no_grad()
    def detect(self, sample: dict[str, Any]) -> LabelledBoxes:
        """Detects the boxes of a sample dict from :meth:`sample`."""
        found = self._network([sample])[0]["instances"]
        boxes, scores = found.pred_boxes_3d.to("cpu"), found.scores.cpu()
        return LabelledBoxes(boxes, found.pred_classes.cpu(), scores)

    def _check_time(self, seconds: float | None) -> None:
        last = self._past_frames[0].seconds if self._past_frames else -math.inf
        if seconds is None or not last < seconds < math.inf:
            later = f", later than {last} of the last call" if self._past_frames else ""
            raise ValueError(
                f"the model's frames are {self.frame_interval} s apart "
                f"(dataloader.frame_interval): give each call its time as seconds{later}, got "
                f"{seconds}; call reset() between drives"
            )

    def _frame(self, rig: Rig, ego2global: ArrayLike | None) -> Frame:
        """Makes the frame of a call. Fields that only data sets need are empty."""
        if self._past_frames:
            previous = self._past_frames[0].frame
            sizes = tuple(map(tuple, previous.image_sizes.tolist()))
            if (previous.channels, sizes) != (rig.channels, rig.image_sizes):
                raise ValueError(
                    f"the rig has cameras {rig.channels} of {rig.image_sizes} pixels, the earlier "
                    f"frames had {previous.channels} of {sizes}; call reset() between rigs"
                )
        # A unique token for each frame, by which the stream finds the features of earlier frames.
        token, self._count = str(self._count), self._count + 1
        return Frame(
            sample_token=token,
            scene_token="",
            scene_name="",
            timestamp=0,
            previous=-1,
            next=-1,
            channels=rig.channels,
            image_paths=("",) * rig.num_cameras,
            image_sizes=np.array(rig.image_sizes, np.int32),
            camera_timestamps=np.zeros(rig.num_cameras, np.int64),
            intrinsics=rig.intrinsics.numpy(),
            cam2ego=rig.cam2ego.numpy(),
            ego2global=_poses(ego2global, rig),
            reference_camera=rig.reference_camera,
        )

    def _model_frames(self) -> list[_FrameImages]:
        """Returns the T frames of the next sample, the latest first."""
        past, num_frames = self._past_frames, self.model.num_frames
        if self.frame_interval is None:
            # The key frame replaces missing frames, as in training (docs/model.md, "Training
            # data").
            wanted = [t * self._spacing for t in range(num_frames)]
            used = [i if i < len(past) else 0 for i in wanted]
            needed = wanted[-1] + 1
        else:
            times = [each.seconds for each in past]
            used = frames_by_time(times, num_frames, self.frame_interval)
            limit = times[0] - (num_frames - 0.5) * self.frame_interval
            needed = sum(time >= limit for time in times)
            if isinstance(self._network, StreamingPredictor):
                self._network.frame_spacing = math.ceil(needed / max(1, num_frames - 1))
        frames = [past[i] for i in used]
        while len(past) > needed:
            past.pop()
        return frames


def load_model(cfg: DictConfig, weights: str) -> nn.Module:
    """Builds the model of a config, loads weights, and switches to evaluation mode.

    Raises:
        FileNotFoundError, ValueError: the weights cannot be read or do not fit model and settings
            exactly, see ``load_weights``.
    """
    model = build_model(cfg)
    load_weights(model, weights, strict=True, settings=ModelSettings.of(model, cfg))
    return model.eval()


def read_images(images: Mapping[str, Image] | Sequence[Image], rig: Rig) -> list[NDArray[np.uint8]]:
    """Reads the images of a rig as (height, width, 3) uint8 RGB arrays, in the rig's order, and
    rectifies those of a camera with a lens.

    Raises:
        FileNotFoundError, ValueError: an image is missing, unreadable or has another size, or there
            are too many images.
    """
    if isinstance(images, Mapping):
        if set(images) != set(rig.channels):
            raise ValueError(f"images of {sorted(images)}, but the rig has {sorted(rig.channels)}")
        images = [images[name] for name in rig.channels]
    if isinstance(images, str | os.PathLike) or not hasattr(images, "__len__"):
        raise ValueError(
            f"images must be a list, or a dict by camera ({', '.join(rig.channels)}), got "
            f"{type(images).__name__}"
        )
    if len(images) != rig.num_cameras:
        raise ValueError(f"{len(images)} images, but the rig has {rig.num_cameras} cameras")
    return [
        rectify(_pixels(image, rig, i), rig.lens(i), rig.intrinsics[i])
        for i, image in enumerate(images)
    ]


def _pixels(image: Image, rig: Rig, camera: int) -> NDArray[np.uint8]:
    """Reads and checks the image of one camera."""
    name, size = rig.channels[camera], rig.image_sizes[camera]
    where = f"camera {name!r}"
    if isinstance(image, str | os.PathLike):
        file = ImageFile(image)
        where = f"{image} ({where})"
        # The header is enough for the check, and an image of another size is never decoded.
        _check_size(where, file.size, size)
        return file.decode()
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"{where}: an image is (height, width, 3) uint8 RGB, got {image.shape} {image.dtype}"
        )
    _check_size(where, image.shape[1::-1], size)
    return image


def _check_size(where: str, found: tuple[int, int], size: tuple[int, int]) -> None:
    """Raises a ValueError if an image does not have the size in the rig."""
    if found != size:
        raise ValueError(
            f"{where}: {found[0]} x {found[1]} pixels, but the rig has {size[0]} x {size[1]}; "
            "correct the size and the intrinsics in the rig, or give other images"
        )


def _poses(ego2global: ArrayLike | None, rig: Rig) -> NDArray[np.float64]:
    """Returns (N, 4, 4) poses, the pose of each camera; the identity without ``ego2global``."""
    try:
        poses = np.array(np.eye(4) if ego2global is None else ego2global, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"ego2global must be a matrix of numbers, got {ego2global!r}") from error
    if poses.shape == (4, 4):
        poses = np.tile(poses, (rig.num_cameras, 1, 1))
    if poses.shape != (rig.num_cameras, 4, 4):
        raise ValueError(
            f"ego2global must be (4, 4) or ({rig.num_cameras}, 4, 4), got {poses.shape}"
        )
    for pose in poses:
        if not is_rigid(torch.from_numpy(pose)):
            raise ValueError(
                f"ego2global must be a rotation and a translation, got {pose.tolist()}"
            )
    return poses
