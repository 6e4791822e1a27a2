"""Inference over a stream: every frame of a scene goes through the image branch once.

Shapes: B samples, T frames (0 is the key frame), N cameras.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fsdbev.modeling.image_features import ImageFeatures


@dataclass(eq=False)
class _CachedFrame:
    """One frame of one sample.

    Attributes:
        images: (N, 3, H, W) as the sample has them.
        image_aug: (N, 4, 4), what made those of the cameras' images.
        features: those of its N views, once they are computed.
    """

    images: Tensor
    image_aug: Tensor
    features: ImageFeatures | None = None

    def is_frame(self, t: int, sample: dict) -> bool:
        """Whether this is frame ``t`` of a sample: by every pixel, or, where the sample leaves its
        images out, by their size and ``image_aug``."""
        images = torch.as_tensor(sample["images"])
        if t < len(images):
            return _equal(self.images, images[t])
        same_size = self.images.shape == images.shape[1:]
        return same_size and _equal(self.image_aug, torch.as_tensor(sample["image_aug"]))

    def to_keep(self) -> _CachedFrame:
        """The same in memory of its own: the caller may overwrite its images, and to keep a part of
        a batch would keep all of it."""
        return _CachedFrame(self.images.clone(), self.image_aug.clone(), self.features.map(_owned))


class StreamingPredictor(nn.Module):
    """Evaluates a model on samples that share frames, and computes what they share once.

    Takes what the model takes and returns what it returns. A frame's image features depend on its
    images alone, so those of a scene's last key frames are kept for the samples after them; all
    that comes later knows the camera poses of the key frame and is computed anew.

    Samples say what they are made of (``MultiViewMapper`` does):

    - ``frame_tokens``: T names, the key frame's first; without them everything is computed. A frame
      that stands in for another has its own name. The order of samples does not matter, nor what
      stands in a batch; best is one scene after the other.
    - ``scene_token``: where names are looked up; without it there is one scene.
    - ``images`` (t, N, 3, H, W) of the first t >= 1 frames. The rest may be left out where the
      stream has it: where it was a key frame among the last ``frame_spacing * (T - 1)`` of its
      scene. All other entries are of T frames.

    No stale feature is used: a frame must agree with the kept one in every pixel, or, where its
    images are left out, in ``image_aug`` and size; and everything is forgotten when a weight
    changes, autocast does, or the mode is set.

    Args:
        model: its ``forward`` takes ``image_features`` as FSDBEV's does, see :func:`can_stream`.
        frame_spacing: samples from one frame to the next.
        max_scenes: of how many scenes frames are kept; a batch's own are always kept. Those not
            seen for longest go first.
    """

    def __init__(self, model: nn.Module, *, frame_spacing: int = 1, max_scenes: int = 4) -> None:
        super().__init__()
        if not can_stream(model):
            raise ValueError(
                f"{type(model).__name__} cannot be streamed: its forward takes no image_features"
            )
        if frame_spacing < 1 or max_scenes < 1:
            raise ValueError(
                f"frame_spacing and max_scenes start at 1, got {frame_spacing} and {max_scenes}"
            )
        self.model = model
        self.frame_spacing = frame_spacing
        self.max_scenes = max_scenes
        self.training = model.training
        self._weights = [w for m in model.modules() for w in (m._parameters, m._buffers)]
        self.reset()

    def reset(self) -> None:
        """Forgets all frames."""
        self._scenes: dict[
            Hashable, dict[Hashable, _CachedFrame]
        ] = {}  # what came last stands last
        self._state: Hashable = None

    def train(self, mode: bool = True) -> StreamingPredictor:
        self.reset()
        return super().train(mode)

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> list[dict[str, Any]]:
        """Raises ValueError in training mode, and where images are left out that the stream does
        not have."""
        if self.training or self.model.training:
            raise ValueError("a stream is for evaluation, but the model is in training mode")
        self._remove_outdated()
        frames = self._find_frames(batched_inputs)
        self._extract_features(chain(*frames), batch_size=len(batched_inputs))
        outputs = self.model(batched_inputs, image_features=_joined(frames))
        self._keep_key_frames(batched_inputs, frames[0])
        return outputs

    def _find_frames(self, batched_inputs: Sequence[dict]) -> list[list[_CachedFrame]]:
        """Every frame of every sample, by t and sample: kept ones, and new ones without features.
        Frames that samples of the batch share are one."""
        new: dict[Hashable, _CachedFrame] = {}
        return [
            [self._find_frame(sample, t, new) for sample in batched_inputs]
            for t in range(self.model.num_frames)
        ]

    def _find_frame(self, sample: dict, t: int, new: dict[Hashable, _CachedFrame]) -> _CachedFrame:
        scene, token = sample.get("scene_token"), self._tokens(sample)[t]
        if token is not None:
            for known in (self._scenes.get(scene, {}).get(token), new.get((scene, token))):
                if known is not None and known.is_frame(t, sample):
                    return known
        images, image_aug = (torch.as_tensor(sample[key]) for key in ("images", "image_aug"))
        if t >= len(images):
            raise ValueError(
                f"images of sample {sample.get('sample_token')!r} hold {len(images)} of "
                f"{self.model.num_frames} frames, and the stream has no frame {token!r} of scene "
                f"{scene!r} with this image_aug and size; give its images too"
            )
        frame = _CachedFrame(images[t], image_aug)
        if token is not None:
            new[scene, token] = frame
        return frame

    def _tokens(self, sample: dict) -> Sequence[Hashable]:
        """Names of the sample's frames; None where they have none."""
        num_frames = self.model.num_frames
        tokens = sample.get("frame_tokens")
        if tokens is None:
            return [None] * num_frames
        if len(tokens) != num_frames:
            raise ValueError(
                f"the model takes {num_frames} frames, but frame_tokens of sample "
                f"{sample.get('sample_token')!r} are {list(tokens)}; set num_frames of model and "
                "data alike"
            )
        return tokens

    def _extract_features(self, frames: Iterable[_CachedFrame], batch_size: int) -> None:
        """Computes what is missing, ``batch_size`` frames at a time as the model would."""
        new = [frame for frame in dict.fromkeys(frames) if frame.features is None]
        for start in range(0, len(new), batch_size):
            batch = new[start : start + batch_size]
            if len({frame.images.shape for frame in batch}) > 1:
                shapes = [tuple(frame.images.shape) for frame in batch]
                raise ValueError(f"samples of a batch must agree in the shape of images: {shapes}")
            device = self.model.device
            images = [frame.images.to(device, non_blocking=True) for frame in batch]
            image = replace(self.model.extract_image_features(torch.stack(images)), logits=None)
            for frame, features in zip(batch, image.chunk(len(batch)), strict=True):
                frame.features = features

    def _keep_key_frames(
        self, batched_inputs: Sequence[dict], key_frames: Sequence[_CachedFrame]
    ) -> None:
        """Keeps, of every scene, what a later sample can ask for."""
        count = self.frame_spacing * (self.model.num_frames - 1)
        here = set()
        for sample, frame in zip(batched_inputs, key_frames, strict=True):
            scene, token = sample.get("scene_token"), self._tokens(sample)[0]
            if token is None or count == 0:
                continue
            here.add(scene)
            kept = self._scenes[scene] = self._scenes.pop(scene, {})
            if kept.pop(token, None) is not frame:
                frame = frame.to_keep()
            kept[token] = frame
            for oldest in list(kept)[:-count]:
                del kept[oldest]
        for scene in list(self._scenes)[: -max(self.max_scenes, len(here))]:
            del self._scenes[scene]

    def _remove_outdated(self) -> None:
        """Forgets all where the model would no longer compute the same features."""
        device = self.model.device.type
        precision = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        weights = chain.from_iterable(weights.values() for weights in self._weights)
        state = (precision, *(_version(weight) for weight in weights if weight is not None))
        if state != self._state:
            self.reset()
            self._state = state


def can_stream(model: nn.Module) -> bool:
    """Whether the model takes image features instead of images; one whose ``forward`` is another
    does not, whatever it has inherited."""
    return "image_features" in inspect.signature(model.forward).parameters


def _joined(frames: Sequence[Sequence[_CachedFrame]]) -> list[ImageFeatures]:
    """Frames by t and sample -> features of each t, as a batch."""
    return [ImageFeatures.cat([frame.features for frame in column]) for column in frames]


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.device != b.device:
        return False
    if a.dtype == torch.uint8 and a.device.type == "cpu":
        return np.array_equal(a.numpy(), b.numpy())  # torch takes seven times as long for bytes
    return torch.equal(a, b)


def _owned(x: Tensor) -> Tensor:
    """``x`` in memory where nothing else is."""
    return x if x.untyped_storage().nbytes() == x.nbytes else x.clone()


def _version(weight: Tensor) -> tuple[int, int]:
    """Changes with the weight: where it lies, and how often it was written to."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version
