"""Streaming inference: each frame of a scene passes through the image branch once.

Shapes: B samples, T frames (0 is the key frame), N cameras of a sample, (H, W) network image.
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


# eq=False: frames are compared and hashed by identity, as keys of dicts; a generated __eq__ would
# compare tensors.
@dataclass(eq=False)
class _CachedFrame:
    """Images of one frame and, once computed, their features.

    Attributes:
        images: (N, 3, H, W) network images, as in the sample.
        image_aug: (N, 4, 4) transform from the original images to the network images.
        features: features of the N views; None until they are computed.
    """

    images: Tensor
    image_aug: Tensor
    features: ImageFeatures | None = None

    def is_frame(self, t: int, sample: dict) -> bool:
        """Checks whether this is frame ``t`` of a sample.

        Compares every pixel, or size and ``image_aug`` if the sample omits the images of the frame.
        """
        images = torch.as_tensor(sample["images"])
        if t < len(images):
            return _equal(self.images, images[t])
        same_size = self.images.shape == images.shape[1:]
        return same_size and _equal(self.image_aug, torch.as_tensor(sample["image_aug"]))

    def copy_to_keep(self) -> _CachedFrame:
        """Copies the frame into separate memory."""
        # The caller may overwrite its images, and a view of a batch would keep the whole batch.
        features = self.features.map(_in_own_storage)
        return _CachedFrame(self.images.clone(), self.image_aug.clone(), features)


class StreamingPredictor(nn.Module):
    """Evaluates a model on samples that share frames, and computes image features of a frame once.

    Inputs and outputs are those of the model. Image features depend only on the images of a frame,
    so the features of a scene's last key frames are cached for later samples. All later parts of
    the model depend on the camera poses of the key frame and run for every sample.

    Samples identify their frames with these entries, which ``MultiViewMapper`` sets:

    - ``frame_tokens``: T names of the frames, the key frame first. A frame that replaces a missing
      one keeps its own name. Without this entry nothing is cached. Samples may come in any order
      and in any batches; the cache works best if one scene follows the other.
    - ``scene_token``: name of the scene, within which frame names are unique. Samples without this
      entry belong to one scene.
    - ``images``: (t, N, 3, H, W) of the first t >= 1 frames. Other frames may be omitted if they
      are cached, that is if they were among the last ``frame_spacing * (T - 1)`` key frames of
      their scene. All other entries of the sample have T frames.

    Stale features are never used. A cached frame must agree with the sample's frame in every pixel,
    or in ``image_aug`` and size if its images are omitted. The cache is cleared when a weight, the
    precision of autocast or the mode of the module changes.

    Args:
        model: a model whose ``forward`` takes ``image_features`` as that of FSDBEV does, see
            :func:`can_stream`.
        frame_spacing: number of samples from one frame to the next.
        max_scenes: number of scenes to cache. Scenes of the current batch are always cached; the
            least recently used scenes are dropped first.

    Raises:
        ValueError: the model cannot be streamed, or a number is less than 1.
    """

    def __init__(self, model: nn.Module, *, frame_spacing: int = 1, max_scenes: int = 4) -> None:
        super().__init__()
        if not can_stream(model):
            raise ValueError(
                f"{type(model).__name__} cannot be streamed: its forward has no image_features"
            )
        if frame_spacing < 1 or max_scenes < 1:
            raise ValueError(
                "frame_spacing and max_scenes must be at least 1, got "
                f"{frame_spacing} and {max_scenes}"
            )
        self.model = model
        self.frame_spacing = frame_spacing
        self.max_scenes = max_scenes
        # nn.Module starts in training mode, whatever the mode of the model.
        self.training = model.training
        # The modules' own dicts, so that replaced weights are noticed as well.
        self._weights = [w for m in model.modules() for w in (m._parameters, m._buffers)]
        self.reset()

    def reset(self) -> None:
        """Clears the cache."""
        # By scene and frame token, in the order of their last use.
        self._scenes: dict[Hashable, dict[Hashable, _CachedFrame]] = {}
        self._state: Hashable = None

    def train(self, mode: bool = True) -> StreamingPredictor:
        """Sets the mode of stream and model, and clears the cache."""
        self.reset()
        return super().train(mode)

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> list[dict[str, Any]]:
        """Detects the boxes of a batch.

        Args:
            batched_inputs: B sample dicts of the model; earlier frames may omit their images.

        Returns:
            The results of the model, one for each sample.

        Raises:
            ValueError: the stream or the model is in training mode; omitted images are not cached;
                or samples of the batch differ in image size.
        """
        if self.training or self.model.training:
            raise ValueError(
                "streaming is for evaluation, but the model is in training mode; call eval() first"
            )
        self._remove_outdated()
        frames = self._find_frames(batched_inputs)
        self._extract_features(chain(*frames), batch_size=len(batched_inputs))
        features = [ImageFeatures.cat([frame.features for frame in batch]) for batch in frames]
        outputs = self.model(batched_inputs, image_features=features)
        self._keep_key_frames(batched_inputs, frames[0])
        return outputs

    def _find_frames(self, batched_inputs: Sequence[dict]) -> list[list[_CachedFrame]]:
        """Returns the frames by t and sample: cached frames, and new frames without features.

        Samples of the batch that share a frame share its object too.
        """
        new: dict[Hashable, _CachedFrame] = {}
        return [
            [self._find_frame(sample, t, new) for sample in batched_inputs]
            for t in range(self.model.num_frames)
        ]

    def _find_frame(self, sample: dict, t: int, new: dict[Hashable, _CachedFrame]) -> _CachedFrame:
        """Returns frame ``t`` of a sample from the cache, or from ``new`` frames of the batch.

        A frame found in neither is added to ``new``.
        """
        scene, token = sample.get("scene_token"), self._tokens(sample)[t]
        if token is not None:
            for known in (self._scenes.get(scene, {}).get(token), new.get((scene, token))):
                if known is not None and known.is_frame(t, sample):
                    return known
        images, image_aug = (torch.as_tensor(sample[key]) for key in ("images", "image_aug"))
        if t >= len(images):
            raise ValueError(
                f"sample {sample.get('sample_token')!r} has images of {len(images)} of "
                f"{self.model.num_frames} frames, and the stream has no frame {token!r} of scene "
                f"{scene!r} with this image_aug and size; give its images too"
            )
        frame = _CachedFrame(images[t], image_aug)
        if token is not None:
            new[scene, token] = frame
        return frame

    def _tokens(self, sample: dict) -> Sequence[Hashable]:
        """Returns the names of the sample's T frames; None for frames without a name."""
        num_frames = self.model.num_frames
        tokens = sample.get("frame_tokens")
        if tokens is None:
            return [None] * num_frames
        if len(tokens) != num_frames:
            raise ValueError(
                f"the model takes {num_frames} frames, but frame_tokens of sample "
                f"{sample.get('sample_token')!r} are {list(tokens)}; set the same num_frames for "
                "model and data"
            )
        return tokens

    def _extract_features(self, frames: Iterable[_CachedFrame], batch_size: int) -> None:
        """Computes missing features, ``batch_size`` frames at a time as the model itself does."""
        new = [frame for frame in dict.fromkeys(frames) if frame.features is None]
        for start in range(0, len(new), batch_size):
            batch = new[start : start + batch_size]
            if len({frame.images.shape[1:] for frame in batch}) > 1:
                shapes = [tuple(frame.images.shape) for frame in batch]
                raise ValueError(
                    f"samples of a batch must agree in image size, but the images of their frames "
                    f"are {shapes}; load them with one mapper, or in separate batches"
                )
            # Moved one by one: a tensor joined on the CPU would leave the loader's pinned memory.
            device = self.model.device
            images = [frame.images.to(device, non_blocking=True) for frame in batch]
            image = self.model.extract_image_features(torch.cat(images))
            # Logits are for the loss only and would take memory in the cache.
            parts = replace(image, logits=None).split([len(frame.images) for frame in batch])
            for frame, features in zip(batch, parts, strict=True):
                frame.features = features

    def _keep_key_frames(
        self, batched_inputs: Sequence[dict], key_frames: Sequence[_CachedFrame]
    ) -> None:
        """Caches the key frames that later samples can need, and drops older ones."""
        count = self.frame_spacing * (self.model.num_frames - 1)
        current_scenes = set()
        for sample, frame in zip(batched_inputs, key_frames, strict=True):
            scene, token = sample.get("scene_token"), self._tokens(sample)[0]
            if token is None or count == 0:
                continue
            current_scenes.add(scene)
            # Removing and adding an entry moves it to the end of the dict, the last used place.
            kept = self._scenes[scene] = self._scenes.pop(scene, {})
            if kept.pop(token, None) is not frame:
                frame = frame.copy_to_keep()
            kept[token] = frame
            for oldest in list(kept)[:-count]:
                del kept[oldest]
        for scene in list(self._scenes)[: -max(self.max_scenes, len(current_scenes))]:
            del self._scenes[scene]

    def _remove_outdated(self) -> None:
        """Clears the cache if the model would no longer compute the same features."""
        device = self.model.device.type
        precision = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        weights = chain.from_iterable(weights.values() for weights in self._weights)
        state = (precision, *(_version(weight) for weight in weights if weight is not None))
        if state != self._state:
            self.reset()
            self._state = state


def can_stream(model: nn.Module) -> bool:
    """Checks whether the model's ``forward`` accepts image features instead of images."""
    # The signature, not the class: a subclass may override forward without this argument.
    return "image_features" in inspect.signature(model.forward).parameters


def _equal(a: Tensor, b: Tensor) -> bool:
    """Checks whether two tensors agree in type, device, shape and every value."""
    if a.dtype != b.dtype or a.device != b.device:
        return False
    if a.dtype == torch.uint8 and a.device.type == "cpu":
        # NumPy compares bytes seven times as fast as torch.equal.
        return np.array_equal(a.numpy(), b.numpy())
    return torch.equal(a, b)


def _in_own_storage(x: Tensor) -> Tensor:
    """Returns ``x``, or a copy if its storage contains more than ``x``."""
    return x if x.untyped_storage().nbytes() == x.nbytes else x.clone()


def _version(weight: Tensor) -> tuple[int, int]:
    """Returns the address of a weight and its count of in-place writes, to detect changes."""
    # Inference tensors have no version counter.
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version
