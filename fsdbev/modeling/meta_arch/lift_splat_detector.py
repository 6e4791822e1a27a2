"""LiftSplatDetector: what all detectors that lift image features into BEV have in common.

Shapes: B samples, T frames (0 is the key frame), N cameras, V = B N views, S weight sets,
C context channels, D depth bins, (H, W) image size, (h, w) = (H, W) / stride, (Y, X) BEV grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.d2.structures import Instances
from fsdbev.modeling.bev_paste import BEVPaste
from fsdbev.modeling.depth_labels import DepthLabels, downsample_labels
from fsdbev.modeling.image_features import ImageFeatures
from fsdbev.modeling.view_transform import ViewToBEV
from fsdbev.structures import BEVGrid, Cameras, DepthBins


@dataclass(frozen=True)
class FrameFeatures:
    """What the network says about one frame's views.

    Attributes:
        image: what the images alone say.
        depth_prob: (V, D, h, w).
        context: (V, C, h, w).
        foreground: (V, h, w) foreground probability, the mask of the view transform.
    """

    image: ImageFeatures
    depth_prob: Tensor
    context: Tensor
    foreground: Tensor


@dataclass(frozen=True)
class DetectorOutput:
    """What the network makes of its samples.

    Attributes:
        key_frame: what it says about the key frame's views.
        splats: where those go in BEV.
        bev_feats: (S B, C, Y, X), every weight set's samples after those of the one before.
        predictions: the head's maps of each task, of the same samples.
    """

    key_frame: FrameFeatures
    view_to_bev: ViewToBEV
    bev_feats: Tensor
    predictions: list[dict[str, Tensor]]


@META_ARCH_REGISTRY.register()
class LiftSplatDetector(nn.Module):
    """Multi-view 3D detection: lift image features by depth, splat them into BEV, detect there.

    The common part of FSDBEV and of the models in ``projects/``, which say in a subclass what they
    add, in :meth:`make_labels`, :meth:`image_losses`, :meth:`pooling_weights`, :meth:`bev_losses`.
    As it is, depth is learnt from detection alone.

    Takes a ``list[dict]``, one a sample, with

    - ``images`` (T, N, 3, H, W) uint8 or float RGB 0..255 of the network's size,
    - ``cam2ego``, ``ego2global`` (T, N, 4, 4), ``intrinsics`` (T, N, 3, 3),
      ``image_aug`` (N, 4, 4), ``bev_aug`` (4, 4): see ``Cameras``,
    - for training ``instances`` with ``gt_boxes_3d`` and ``gt_classes``; some models also look at
      ``gt_depth`` (T, N, H, W) metres, 0 where there is no point, ``gt_foreground`` (T, N, H, W)
      bool, ``gt_heatmap`` (N, 10, H / 4, W / 4) of the key frame.

    In training returns ``dict[str, Tensor]``: the head's ``task{i}.loss_*`` and the losses that a
    subclass adds. Otherwise ``[{"instances": Instances}]``, one a sample, with ``pred_boxes_3d`` in
    key ego (seen through ``bev_aug``), ``scores`` and ``pred_classes``.

    Who has the frames' image features already hands them in as ``image_features``, a frame each, as
    ``extract_image_features`` gives them; then no pixel is looked at (``StreamingPredictor``).

    Args:
        backbone: (V, 3, H, W) -> maps of strides 4 to 32.
        neck: those -> a pyramid, its coarsest map last.
        msfe: the pyramid -> ImageFeatures; None: the coarsest map is all there is.
        depth_net: what its ``embed`` makes of features, camera vectors -> depth probability,
            context.
        view_transform: weights, foreground, context -> BEV maps.
        temporal_stage: every frame's BEV map passes it before the frames are concatenated; None for
            none.
        bev_encoder: (B, T C, Y, X) -> (B, channels, Y, X).
        head: has ``targets``, ``losses`` and ``decode``.
        grid: the BEV grid that the parts share.
        depth_bins: the depth bins that the parts share.
        num_frames: T.
        bev_paste: augmentation in training, None for none.
        stride: pixels from one cell of the depth network's maps to the next.
        pixel_mean, pixel_std: of the three channels, RGB 0..255.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        msfe: nn.Module | None = None,
        depth_net: nn.Module,
        view_transform: nn.Module,
        temporal_stage: nn.Module | None = None,
        bev_encoder: nn.Module,
        head: nn.Module,
        grid: BEVGrid,
        depth_bins: DepthBins,
        num_frames: int = 1,
        bev_paste: BEVPaste | None = None,
        stride: int = 16,
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.msfe = msfe
        self.depth_net = depth_net
        self.view_transform = view_transform
        self.temporal_stage = temporal_stage
        self.bev_encoder = bev_encoder
        self.head = head
        self.grid = grid
        self.depth_bins = depth_bins
        self.num_frames = num_frames
        self.bev_paste = bev_paste
        self.stride = stride
        for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def image_branch(self) -> tuple[str, ...]:
        """Names of the parts, and of one part its layers, that make up
        ``extract_image_features``."""
        parts = [name for name in ("backbone", "neck", "msfe") if getattr(self, name) is not None]
        return (*parts, *(f"depth_net.{layer}" for layer in self.depth_net.image_layers))

    def forward(
        self,
        batched_inputs: list[dict],
        image_features: Sequence[ImageFeatures] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Instances]]:
        frames = (
            self.iter_image_features(batched_inputs)
            if image_features is None
            else iter(image_features)
        )
        labels = self.make_labels(batched_inputs) if self.training else [None] * self.num_frames
        transforms = self.sample_paste_transforms(len(batched_inputs))
        scene = self.forward_bev(batched_inputs, frames, labels, transforms)

        if not self.training:
            return [{"instances": instances} for instances in self.head.decode(scene.predictions)]
        losses = self.image_losses(scene.key_frame, labels[0], batched_inputs)
        losses |= self.bev_losses(scene.bev_feats, scene.predictions, batched_inputs, transforms)
        return losses

    def forward_bev(
        self,
        batched_inputs: list[dict],
        frames: Iterator[ImageFeatures],
        labels: Sequence[DepthLabels | None],
        transforms: Tensor | None = None,
    ) -> DetectorOutput:
        """From every frame's image features to the head's maps: lift, splat, put together, detect.
        Earlier frames take no gradient.

        Args:
            batched_inputs: for calibration and image size.
            frames: what :meth:`iter_image_features` gives.
            labels: what :meth:`make_labels` gives, or None for every frame.
            transforms: of BEV-paste.
        """
        cameras = Cameras.from_samples(batched_inputs)
        camera_vector = cameras.camera_vector().to(self.device)
        view_to_bev = self.views_to_bev(cameras, batched_inputs[0]["images"].shape[-2:], transforms)

        key_frame = self.predict_depth(next(frames), camera_vector)
        bev_maps = [self.pool(key_frame, view_to_bev[0], labels[0])]
        with torch.no_grad():
            for t, image in enumerate(frames, start=1):
                frame = self.predict_depth(image, camera_vector)
                bev_maps.append(self.pool(frame, view_to_bev[t], labels[t]))
        bev_feats = self.bev_encoder(torch.cat(bev_maps, dim=1))
        return DetectorOutput(key_frame, view_to_bev[0], bev_feats, self.head(bev_feats))

    def iter_image_features(self, batched_inputs: list[dict]) -> Iterator[ImageFeatures]:
        """Image features of one frame after the other. Each is computed when it is asked for, and
        has a gradient if gradients are on just then."""
        images = self.stack_images(batched_inputs)
        return (self.extract_image_features(images[:, t]) for t in range(self.num_frames))

    def extract_image_features(self, images: Tensor) -> ImageFeatures:
        """(B, N, 3, H, W) RGB 0..255 of one frame, on the model's device -> all that depends on
        nothing else; the depth network has embedded the features."""
        pyramid = self.neck(self.backbone(self.normalise(images)))
        image = ImageFeatures(pyramid[-1]) if self.msfe is None else self.msfe(pyramid)
        return replace(image, features=self.depth_net.embed(image.features))

    def normalise(self, images: Tensor) -> Tensor:
        """(B, N, 3, H, W) RGB 0..255 -> (V, 3, H, W) as the backbone takes them."""
        return (images.flatten(0, 1).float() - self.pixel_mean) / self.pixel_std

    def predict_depth(self, image: ImageFeatures, camera_vector: Tensor) -> FrameFeatures:
        """Image features of one frame and the key frame's (B, N, 27) camera vector -> those, depth
        and context. All is foreground where the images do not say what is."""
        depth_prob, context = self.depth_net(image.features, camera_vector)
        foreground = image.foreground
        if foreground is None:
            foreground = torch.ones_like(depth_prob[:, 0])
        return FrameFeatures(image, depth_prob, context, foreground)

    def pool(
        self, frame: FrameFeatures, view_to_bev: ViewToBEV, labels: DepthLabels | None
    ) -> Tensor:
        """One frame -> (S B, C, Y, X) maps for the encoder."""
        weights, foreground = self.pooling_weights(frame, labels)
        pooled = self.view_transform(weights, foreground, frame.context, view_to_bev).flatten(0, 1)
        return pooled if self.temporal_stage is None else self.temporal_stage(pooled)

    def pooling_weights(
        self, frame: FrameFeatures, labels: DepthLabels | None
    ) -> tuple[Tensor, Tensor]:
        """(S, V, D, h, w) depth weights and (S, V, h, w) foreground that a frame is pooled by."""
        return frame.depth_prob[None], frame.foreground[None]

    def make_labels(self, batched_inputs: list[dict]) -> list[DepthLabels | None]:
        """Labels of every frame's cells for training, None for a frame without."""
        return [None] * self.num_frames

    def image_losses(
        self, key_frame: FrameFeatures, labels: DepthLabels | None, batched_inputs: list[dict]
    ) -> dict[str, Tensor]:
        """Losses on what the key frame's images say."""
        return {}

    def bev_losses(
        self,
        bev_feats: Tensor,
        predictions: list[dict[str, Tensor]],
        batched_inputs: list[dict],
        transforms: Tensor | None,
    ) -> dict[str, Tensor]:
        """Losses of detection: of every weight set alike."""
        instances = [sample["instances"] for sample in batched_inputs]
        if transforms is not None:
            instances = self.bev_paste.paste_instances(instances, transforms)
        return self.head.losses(predictions, self.head.targets(instances))

    def downsample_labels(self, batched_inputs: list[dict], frame: int) -> DepthLabels:
        """Labels of the cells of one frame, from ``gt_depth`` and ``gt_foreground``."""
        gt_depth, gt_foreground = (
            self._stack(batched_inputs, key, frame).flatten(0, 1)
            for key in ("gt_depth", "gt_foreground")
        )
        return downsample_labels(gt_depth, gt_foreground, self.depth_bins, self.stride)

    def stack_images(self, batched_inputs: list[dict]) -> Tensor:
        """(B, T, N, 3, H, W) images on the model's device."""
        images = self._stack(batched_inputs, "images")
        if images.shape[1] != self.num_frames:
            raise ValueError(
                f"the model takes {self.num_frames} frames, images hold {images.shape[1]}; set "
                "num_frames of model and data alike"
            )
        return images

    def sample_paste_transforms(self, batch_size: int) -> Tensor | None:
        """(B, 4, 4) random transforms of BEV-paste in training, else None; on the CPU."""
        if not self.training or self.bev_paste is None:
            return None
        return self.bev_paste.sample_transforms(batch_size)

    def views_to_bev(
        self, cameras: Cameras, image_size: tuple[int, int], transforms: Tensor | None
    ) -> list[ViewToBEV]:
        """Where every frame's views go in BEV, pasted by ``transforms`` if given.

        Small float64 matrices, composed on the CPU: there the device need not wait for them.
        """
        view_to_bev = [ViewToBEV.of_frame(cameras, t, image_size) for t in range(self.num_frames)]
        if transforms is not None:
            view_to_bev = [self.bev_paste.paste_views(s, transforms) for s in view_to_bev]
        return [s.to(self.device) for s in view_to_bev]

    def _stack(self, batched_inputs: list[dict], key: str, frame: int | None = None) -> Tensor:
        """(B, ...) values of all samples, or of one frame of each, on the model's device."""
        values = [torch.as_tensor(sample[key]) for sample in batched_inputs]
        if len({value.shape for value in values}) > 1:
            shapes = [tuple(value.shape) for value in values]
            raise ValueError(f"samples of a batch must agree in the shape of {key}, got {shapes}")
        if frame is not None:
            values = [value[frame] for value in values]
        # One by one: a stack made on the CPU would not be in the loader's pinned memory.
        return torch.stack([value.to(self.device, non_blocking=True) for value in values])
