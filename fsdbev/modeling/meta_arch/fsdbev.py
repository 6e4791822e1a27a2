"""FSDBEV: the meta-architecture that wires the parts.

Letters: B samples, T frames (0 is the key frame), N cameras, V = B N views, S weight sets (student,
teacher), C context channels, D depth bins, (H, W) image size, (h, w) = (H, W) / 16,
(Y, X) BEV grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.d2.structures import Instances
from fsdbev.structures import BEVGrid, Cameras, DepthBins

from ..bev_paste import BEVPaste
from ..depth_labels import DepthLabels, depth_loss, downsample_labels
from ..distillation import TEACHER_FILLS, distillation_loss, teacher_weights
from ..msfe import ImageFeatures
from ..view_transform import Splats


@dataclass(frozen=True)
class Frame:
    """What the network says about one frame's views.

    Attributes:
        image: features, foreground and foreground logits.
        depth_prob: (V, D, h, w).
        context: (V, C, h, w).
    """

    image: ImageFeatures
    depth_prob: Tensor
    context: Tensor


@META_ARCH_REGISTRY.register()
class FSDBEV(nn.Module):
    """Multi-view 3D detection with foreground self-distillation (arXiv 2407.10135).

    Takes a ``list[dict]``, one a sample, with

    - ``images`` (T, N, 3, H, W) uint8 or float RGB 0..255 of the network's size,
    - ``cam2ego``, ``ego2global`` (T, N, 4, 4), ``intrinsics`` (T, N, 3, 3),
      ``image_aug`` (N, 4, 4), ``bev_aug`` (4, 4): see ``Cameras``,
    - for training ``gt_depth`` (T, N, H, W) metres, 0 where there is no point, ``gt_foreground``
      (T, N, H, W) bool, ``gt_heatmap`` (N, 10, H / 4, W / 4) of the key frame, ``instances`` with
      ``gt_boxes_3d`` and ``gt_classes``.

    In training returns ``dict[str, Tensor]``: ``loss_depth``, ``loss_distill``, ``loss_foreground``
    and the head's ``task{i}.loss_*``. Otherwise ``[{"instances": Instances}]``, one a sample, with
    ``pred_boxes_3d`` in key ego (seen through ``bev_aug``), ``scores`` and ``pred_classes``.

    Who has the frames' image features already hands them in as ``image_features``, a frame each, as
    ``extract_image_features`` gives them; then no pixel is looked at (``StreamingPredictor``).

    Args:
        backbone: (V, 3, H, W) -> maps of strides 4 to 32.
        neck: those -> maps of strides 4, 8, 16.
        msfe: those -> ImageFeatures; has ``loss``.
        depth_net: what its ``embed`` makes of features, camera vectors -> depth probability,
            context.
        view_transform: weights, foreground, context -> BEV maps.
        temporal_stage: every frame's BEV map passes it before the frames are concatenated.
        bev_encoder: (B, T C, Y, X) -> (B, channels, Y, X).
        head: has ``targets``, ``losses`` and ``decode``.
        grid: the BEV grid that the parts share.
        depth_bins: the depth bins that the parts share.
        num_frames: T.
        bev_paste: augmentation in training, None for none.
        teacher_fill: "paper" or "release", see ``distillation.teacher_weights``; None trains the
            student alone.
        depth_loss_weight, distill_loss_weight, foreground_loss_weight: of those losses.
        pixel_mean, pixel_std: of the three channels, RGB 0..255.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        msfe: nn.Module,
        depth_net: nn.Module,
        view_transform: nn.Module,
        temporal_stage: nn.Module,
        bev_encoder: nn.Module,
        head: nn.Module,
        grid: BEVGrid,
        depth_bins: DepthBins,
        num_frames: int = 2,
        bev_paste: BEVPaste | None = None,
        teacher_fill: str | None = "paper",
        depth_loss_weight: float = 3.0,
        distill_loss_weight: float = 1.0,
        foreground_loss_weight: float = 1.0,
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        if teacher_fill not in (*TEACHER_FILLS, None):
            raise ValueError(
                f"teacher_fill must be one of {TEACHER_FILLS} or None, got {teacher_fill!r}"
            )
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
        self.teacher_fill = teacher_fill
        self.depth_loss_weight = depth_loss_weight
        self.distill_loss_weight = distill_loss_weight
        self.foreground_loss_weight = foreground_loss_weight
        for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(
        self,
        batched_inputs: list[dict],
        image_features: Sequence[ImageFeatures] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Instances]]:
        frames = self.see(batched_inputs) if image_features is None else iter(image_features)
        labels = self.make_labels(batched_inputs)
        cameras = Cameras.from_samples(batched_inputs)
        camera_vector = cameras.camera_vector().to(self.device)
        transforms = self.sample_paste_transforms(len(batched_inputs))
        splats = self.place_views(cameras, batched_inputs[0]["images"].shape[-2:], transforms)

        key_frame = self.perceive(next(frames), camera_vector)
        bev_maps = [self.pool(key_frame, splats[0], labels[0])]
        with torch.no_grad():
            for t, image in enumerate(frames, start=1):
                frame = self.perceive(image, camera_vector)
                bev_maps.append(self.pool(frame, splats[t], labels[t]))
        bev_feats = self.bev_encoder(torch.cat(bev_maps, dim=1))
        predictions = self.head(bev_feats)

        if not self.training:
            return [{"instances": instances} for instances in self.head.decode(predictions)]
        losses = self.image_losses(key_frame, labels[0], batched_inputs)
        losses |= self.bev_losses(bev_feats, predictions, batched_inputs, transforms)
        return losses

    def see(self, batched_inputs: list[dict]) -> Iterator[ImageFeatures]:
        """Image features of one frame after the other. Each is computed when it is asked for, and
        has a gradient if gradients are on just then."""
        images = self.stack_images(batched_inputs)
        return (self.extract_image_features(images[:, t]) for t in range(self.num_frames))

    def extract_image_features(self, images: Tensor) -> ImageFeatures:
        """(B, N, 3, H, W) RGB 0..255 of one frame, on the model's device -> all that depends on
        nothing else; the depth network has embedded the features."""
        images = (images.flatten(0, 1).float() - self.pixel_mean) / self.pixel_std
        image = self.msfe(self.neck(self.backbone(images)))
        return replace(image, features=self.depth_net.embed(image.features))

    def perceive(self, image: ImageFeatures, camera_vector: Tensor) -> Frame:
        """Image features of one frame and the key frame's (B, N, 27) camera vector -> those, depth
        and context."""
        depth_prob, context = self.depth_net(image.features, camera_vector)
        return Frame(image=image, depth_prob=depth_prob, context=context)

    def pool(self, frame: Frame, splats: Splats, labels: DepthLabels | None) -> Tensor:
        """One frame -> (S B, C, Y, X) maps for the encoder: the student's, then the teacher's if
        there are labels to teach by."""
        weights, foreground = [frame.depth_prob], [frame.image.foreground]
        if labels is not None and self.teacher_fill is not None:
            hard_weights, hard_foreground = teacher_weights(
                labels,
                frame.depth_prob,
                frame.image.foreground,
                fill=self.teacher_fill,
                foreground_threshold=self.view_transform.foreground_threshold,
            )
            weights.append(hard_weights)
            foreground.append(hard_foreground)
        pooled = self.view_transform(
            torch.stack(weights), torch.stack(foreground), frame.context, splats
        )
        return self.temporal_stage(pooled.flatten(0, 1))

    def image_losses(
        self, key_frame: Frame, labels: DepthLabels, batched_inputs: list[dict]
    ) -> dict[str, Tensor]:
        """Losses of depth and foreground, on the key frame."""
        gt_heatmap = self._stack(batched_inputs, "gt_heatmap").flatten(0, 1)
        foreground = self.msfe.loss(key_frame.image, gt_heatmap, labels)
        return {
            "loss_depth": self.depth_loss_weight * depth_loss(key_frame.depth_prob, labels),
            "loss_foreground": self.foreground_loss_weight * foreground,
        }

    def bev_losses(
        self,
        bev_feats: Tensor,
        predictions: list[dict[str, Tensor]],
        batched_inputs: list[dict],
        transforms: Tensor | None,
    ) -> dict[str, Tensor]:
        """Losses of detection, for student and teacher alike, and of distillation."""
        instances = [sample["instances"] for sample in batched_inputs]
        if transforms is not None:
            instances = self.bev_paste.paste_instances(instances, transforms)
        losses = self.head.losses(predictions, self.head.targets(instances))
        if self.teacher_fill is not None:
            student, teacher = bev_feats.chunk(2)
            distance = distillation_loss(student, teacher)
            losses["loss_distill"] = self.distill_loss_weight * distance
        return losses

    def stack_images(self, batched_inputs: list[dict]) -> Tensor:
        """(B, T, N, 3, H, W) images on the model's device."""
        images = self._stack(batched_inputs, "images")
        if images.shape[1] != self.num_frames:
            raise ValueError(
                f"the model takes {self.num_frames} frames, images hold {images.shape[1]}; set "
                "num_frames of model and data alike"
            )
        return images

    def make_labels(self, batched_inputs: list[dict]) -> list[DepthLabels | None]:
        """Labels of every frame in training, else None for every frame."""
        if not self.training:
            return [None] * self.num_frames
        gt_depth = self._stack(batched_inputs, "gt_depth")
        gt_foreground = self._stack(batched_inputs, "gt_foreground")
        return [
            downsample_labels(
                gt_depth[:, t].flatten(0, 1), gt_foreground[:, t].flatten(0, 1), self.depth_bins
            )
            for t in range(self.num_frames)
        ]

    def sample_paste_transforms(self, batch_size: int) -> Tensor | None:
        """(B, 4, 4) random transforms of BEV-paste in training, else None; on the CPU."""
        if not self.training or self.bev_paste is None:
            return None
        return self.bev_paste.sample_transforms(batch_size)

    def place_views(
        self, cameras: Cameras, image_size: tuple[int, int], transforms: Tensor | None
    ) -> list[Splats]:
        """Where every frame's views go in BEV, pasted by ``transforms`` if given.

        Small float64 matrices, composed on the CPU: there the device need not wait for them.
        """
        splats = [Splats.of_frame(cameras, t, image_size) for t in range(self.num_frames)]
        if transforms is not None:
            splats = [self.bev_paste.paste_splats(s, transforms) for s in splats]
        return [s.to(self.device) for s in splats]

    def _stack(self, batched_inputs: list[dict], key: str) -> Tensor:
        """(B, ...) values of all samples on the model's device."""
        values = [torch.as_tensor(sample[key]) for sample in batched_inputs]
        if len({value.shape for value in values}) > 1:
            shapes = [tuple(value.shape) for value in values]
            raise ValueError(f"samples of a batch must agree in the shape of {key}, got {shapes}")
        # One by one: a stack made on the CPU would not be in the loader's pinned memory.
        return torch.stack([value.to(self.device, non_blocking=True) for value in values])
