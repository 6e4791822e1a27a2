"""LiftSplatDetector, the base of detectors that lift image features into BEV.

Shapes: B samples, T frames (0 is the key frame), N cameras of a sample, V views (the cameras of all
samples, one sample after the other), S weight sets (1, or 2 with a teacher), C context channels,
K classes, D depth bins, (H, W) image size, (h, w) = (H, W) / stride, (Y, X) BEV grid.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.d2.structures import Instances
from fsdbev.modeling.bev_paste import BEVPaste
from fsdbev.modeling.center_head import TrainingPredictions
from fsdbev.modeling.depth_labels import DepthLabels, downsample_labels
from fsdbev.modeling.image_features import ImageFeatures
from fsdbev.modeling.view_transform import ViewToBEV
from fsdbev.structures import BEVGrid, Cameras, ClassSet, DepthBins

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameFeatures:
    """Network outputs for the views of one frame, before the view transform.

    Attributes:
        image: image features the others were computed from.
        depth_prob: (V, D, h, w) depth probability.
        context: (V, C, h, w) context features.
        foreground: (V, h, w) foreground probability, the mask of the view transform.
    """

    image: ImageFeatures
    depth_prob: Tensor
    context: Tensor
    foreground: Tensor


@dataclass(frozen=True)
class DetectorOutput:
    """Network outputs for a batch, as :meth:`LiftSplatDetector.forward_bev` returns them.

    Attributes:
        key_frame: outputs for the views of the key frame.
        view_to_bev: receiving samples and transforms of these views.
        bev_feats: (S B, C, Y, X) output of the BEV encoder, all samples of one weight set after
            another.
        predictions: output of the head for the same S B samples: maps per task, of ``CenterHead``
            in training mode ``TrainingPredictions``.
    """

    key_frame: FrameFeatures
    view_to_bev: ViewToBEV
    bev_feats: Tensor
    predictions: list[dict[str, Tensor]] | TrainingPredictions


@META_ARCH_REGISTRY.register()
class LiftSplatDetector(nn.Module):
    """Multi-view 3D detector: lifts image features by depth, splats them into BEV, detects there.

    Base class of FSDBEV and of the models in ``projects/``, which override :meth:`make_labels`,
    :meth:`image_losses`, :meth:`pooling_weights` and :meth:`bev_losses`. The base class supervises
    depth only through the detection losses.

    The forward pass takes a ``list[dict]`` with one dict per sample (docs/model.md, "Inputs and
    outputs"). Samples agree in image size and number of frames, but may have different numbers of
    cameras:

    - ``images`` (T, N, 3, H, W) uint8 or float, RGB 0..255 at the network's input size,
    - ``cam2ego``, ``ego2global`` (T, N, 4, 4), ``intrinsics`` (T, N, 3, 3),
      ``image_aug`` (N, 4, 4), ``bev_aug`` (4, 4): see ``Cameras``,
    - ``key_ego2global`` (4, 4), or ``reference_camera``: see ``key_ego2global``,
    - for training ``instances`` with ``gt_boxes_3d`` and ``gt_classes``; some models also use
      ``gt_depth`` (T, N, H, W) in metres, 0 for pixels without point, ``gt_foreground``
      (T, N, H, W) bool, and ``gt_heatmap`` (N, K, H / 4, W / 4) of the key frame.

    In training it returns ``dict[str, Tensor]``: the head's ``task{i}.loss_*`` and the losses of
    the subclass. In evaluation it returns ``[{"instances": Instances}]`` with one dict per sample:
    ``pred_boxes_3d`` in augmented key ego, ``scores`` and ``pred_classes``. Their ``image_size`` is
    (H, W) of the network image, as that of the training's ``instances``.

    Args:
        backbone: image backbone, (V, 3, H, W) -> maps of strides 4 to 32.
        neck: feature pyramid, maps of the backbone -> pyramid with the coarsest map last. If its
            ``in_channels`` is None, its ``build`` is called with the channels of the backbone's
            ``output_shape()``.
        msfe: foreground branch, pyramid -> ``ImageFeatures``; None to use the coarsest map as it
            is.
        depth_net: depth network, output of its ``embed`` and camera vectors -> depth probability
            and context.
        view_transform: depth weights, foreground and context -> BEV maps.
        temporal_stage: applied to the BEV map of each frame before concatenation; None for none.
        bev_encoder: (B, T C, Y, X) -> (B, channels, Y, X).
        head: detection head with methods ``targets``, ``losses`` and ``decode``.
        classes: the classes of all parts.
        grid: the BEV grid of all parts.
        depth_bins: the depth bins of all parts.
        num_frames: T.
        bev_paste: BEV augmentation in training; None for none.
        stride: stride of the depth network's maps, pixels.
        pixel_mean: per-channel mean, RGB 0..255.
        pixel_std: per-channel standard deviation, RGB 0..255.

    Attributes:
        saved_settings: settings that the weights depend on but their shapes do not, by name;
            checkpoints contain them and those of the parts.

    Raises:
        ValueError: the grid does not fit the strides of the BEV encoder or the flips of
            ``bev_paste``, or a part has other classes, another grid or other depth bins.
    """

    #: Whether evaluation uses labels like training, as a teacher does.
    labels_in_evaluation = False

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
        classes: ClassSet,
        grid: BEVGrid,
        depth_bins: DepthBins,
        num_frames: int = 1,
        bev_paste: BEVPaste | None = None,
        stride: int = 16,
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        if getattr(neck, "in_channels", ()) is None:
            neck.build([shape.channels for shape in backbone.output_shape().values()])
        self.backbone = backbone
        self.neck = neck
        self.msfe = msfe
        self.depth_net = depth_net
        self.view_transform = view_transform
        self.temporal_stage = temporal_stage
        self.bev_encoder = bev_encoder
        self.head = head
        self.classes = classes
        self.grid = grid
        self.depth_bins = depth_bins
        self.num_frames = num_frames
        self.bev_paste = bev_paste
        self.stride = stride
        self.saved_settings = {
            "grid": grid,
            "depth_bins": depth_bins,
            "num_frames": num_frames,
            "stride": stride,
            "pixel_mean": pixel_mean,
            "pixel_std": pixel_std,
        }
        if bev_paste is not None:
            grid.check_flips(bev_paste.flip_prob, "model.bev_paste.flip_prob")
        grid.check_stride(getattr(bev_encoder, "stride", 1))
        if grid.reach > depth_bins.stop:
            logger.warning(
                "model.grid reaches %g m, but model.depth_bins end at %g m: no image feature gets "
                "into the cells beyond",
                grid.reach,
                depth_bins.stop,
            )
        self._check_parts()
        # Buffers, to move with the model; not saved in checkpoints, since they are settings.
        for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            value = torch.tensor([float(each) for each in value]).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def _check_parts(self) -> None:
        """Checks that the parts have the model's classes, grid and depth bins.

        Raises:
            ValueError: one has others.
        """
        for part, module in self.named_children():
            for name in ("classes", "grid", "depth_bins"):
                own, other = getattr(self, name), getattr(module, name, None)
                if other is not None and other != own:
                    raise ValueError(
                        f"model.{part}.{name} is {other}, but model.{name} is {own}; set it to "
                        f"${{model.{name}}}"
                    )

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    @property
    def image_branch(self) -> tuple[str, ...]:
        """Names of the modules that ``extract_image_features`` runs."""
        parts = [name for name in ("backbone", "neck", "msfe") if getattr(self, name) is not None]
        return (*parts, *(f"depth_net.{layer}" for layer in self.depth_net.image_layers))

    def forward(
        self,
        batched_inputs: list[dict],
        image_features: Sequence[ImageFeatures] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Computes losses in training mode, detections in evaluation mode.

        Args:
            batched_inputs: one dict per sample, see the class.
            image_features: image features per frame from :meth:`extract_image_features`, to skip
                the image branch (``StreamingPredictor``); None to compute them from ``images``.
        """
        frames = (
            self.iter_image_features(batched_inputs)
            if image_features is None
            else iter(image_features)
        )
        needs_labels = self.training or self.labels_in_evaluation
        labels = self.make_labels(batched_inputs) if needs_labels else [None] * self.num_frames
        # Drawn before the network runs: on the CPU, dropout uses the same generator, so the order
        # determines the numbers of a seeded run.
        transforms = self.sample_paste_transforms(len(batched_inputs))
        output = self.forward_bev(batched_inputs, frames, labels, transforms)

        if not self.training:
            size = tuple(batched_inputs[0]["images"].shape[-2:])
            found = self.head.decode(output.predictions)
            return [{"instances": Instances(size, **each.get_fields())} for each in found]
        losses = self.image_losses(output.key_frame, labels[0], batched_inputs)
        losses |= self.bev_losses(output.bev_feats, output.predictions, batched_inputs, transforms)
        return losses

    def forward_bev(
        self,
        batched_inputs: list[dict],
        frames: Iterator[ImageFeatures],
        labels: Sequence[DepthLabels | None],
        transforms: Tensor | None = None,
    ) -> DetectorOutput:
        """Runs the network from image features to the maps of the head.

        Predicts depth and pools each frame into the key frame's BEV grid, concatenates the frames,
        and applies BEV encoder and head. Earlier frames run without gradient.

        Args:
            batched_inputs: samples; their calibration and image size are used.
            frames: image features per frame, as :meth:`iter_image_features` returns them.
            labels: labels per frame, as :meth:`make_labels` returns them, or None per frame.
            transforms: (B, 4, 4) transforms of BEV-Paste, or None.
        """
        cameras = Cameras.from_samples(batched_inputs)
        camera_vector = cameras.camera_vector(self.pixel_mean.dtype).to(self.device)
        view_to_bev = self.views_to_bev(cameras, batched_inputs[0]["images"].shape[-2:], transforms)

        key_frame = self.predict_depth(next(frames), camera_vector)
        bev_maps = [self.pool(key_frame, view_to_bev[0], labels[0])]
        # Without gradient as in the release; only the key frame's activations are stored. The
        # iterator extracts image features inside this block, so they have no gradient either.
        # BatchNorm still updates its running statistics.
        with torch.no_grad():
            for t, image in enumerate(frames, start=1):
                frame = self.predict_depth(image, camera_vector)
                bev_maps.append(self.pool(frame, view_to_bev[t], labels[t]))
        bev_feats = self.bev_encoder(torch.cat(bev_maps, dim=1))
        return DetectorOutput(key_frame, view_to_bev[0], bev_feats, self.head(bev_feats))

    def iter_image_features(self, batched_inputs: list[dict]) -> Iterator[ImageFeatures]:
        """Iterates over the image features of the frames, key frame first.

        Features of a frame are computed when the iterator reaches it, with a gradient if gradients
        are enabled at that time.
        """
        images = self.stack_images(batched_inputs)
        return (self.extract_image_features(images[t]) for t in range(self.num_frames))

    def extract_image_features(self, images: Tensor) -> ImageFeatures:
        """Runs the image branch: backbone, neck, foreground branch, ``embed`` of the depth network.

        Args:
            images: (V, 3, H, W) RGB 0..255 of one frame, on the model's device.

        Returns:
            Features that depend on the images only, not on calibration or other frames.
        """
        pyramid = self.neck(self.backbone(self.normalise(images)))
        image = ImageFeatures(pyramid[-1]) if self.msfe is None else self.msfe(pyramid)
        return replace(image, features=self.depth_net.embed(image.features))

    def normalise(self, images: Tensor) -> Tensor:
        """Normalises (V, 3, H, W) RGB 0..255 to the input of the backbone."""
        # One copy of the images, changed in place.
        images = images.to(self.pixel_mean.dtype, copy=True)
        return images.sub_(self.pixel_mean).div_(self.pixel_std)

    def predict_depth(self, image: ImageFeatures, camera_vector: Tensor) -> FrameFeatures:
        """Predicts depth and context of one frame.

        Without a foreground branch every pixel counts as foreground.

        Args:
            image: image features of the frame.
            camera_vector: (V, 27) camera vectors of the key frame, also for earlier frames.
        """
        depth_prob, context = self.depth_net(image.features, camera_vector)
        foreground = image.foreground
        if foreground is None:
            foreground = torch.ones_like(depth_prob[:, 0])
        return FrameFeatures(image, depth_prob, context, foreground)

    def pool(
        self, frame: FrameFeatures, view_to_bev: ViewToBEV, labels: DepthLabels | None
    ) -> Tensor:
        """Pools one frame into BEV and applies the temporal stage.

        Args:
            frame: depth, context and foreground of the frame.
            view_to_bev: receiving samples and transforms of its views.
            labels: labels of the frame, or None.

        Returns:
            (S B, C, Y, X) BEV maps.
        """
        weights, foreground = self.pooling_weights(frame, labels)
        pooled = self.view_transform(weights, foreground, frame.context, view_to_bev).flatten(0, 1)
        return pooled if self.temporal_stage is None else self.temporal_stage(pooled)

    def pooling_weights(
        self, frame: FrameFeatures, labels: DepthLabels | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the pooling weights of a frame; here predicted depth and foreground (S = 1).

        Args:
            frame: depth, context and foreground of the frame.
            labels: labels of the frame, or None.

        Returns:
            (S, V, D, h, w) depth weights and (S, V, h, w) foreground.
        """
        return frame.depth_prob[None], frame.foreground[None]

    def make_labels(self, batched_inputs: list[dict]) -> list[DepthLabels | None]:
        """Returns the labels of each frame for training; None for frames without labels."""
        return [None] * self.num_frames

    def image_losses(
        self, key_frame: FrameFeatures, labels: DepthLabels | None, batched_inputs: list[dict]
    ) -> dict[str, Tensor]:
        """Computes losses on the key frame's outputs before pooling; none in the base class."""
        return {}

    def bev_losses(
        self,
        bev_feats: Tensor,
        predictions: list[dict[str, Tensor]] | TrainingPredictions,
        batched_inputs: list[dict],
        transforms: Tensor | None,
    ) -> dict[str, Tensor]:
        """Computes losses on the BEV features and predictions: those of the head.

        Args:
            bev_feats: (S B, C, Y, X) output of the BEV encoder.
            predictions: output of the head for the same samples; all weight sets are supervised.
            batched_inputs: the B samples, with ``instances``.
            transforms: (B, 4, 4) transforms of BEV-Paste, or None.
        """
        instances = [sample["instances"] for sample in batched_inputs]
        if transforms is not None:
            instances = self.bev_paste.paste_instances(instances, transforms)
        return self.head.losses(predictions, self.head.targets(instances))

    def downsample_labels(self, batched_inputs: list[dict], frame: int) -> DepthLabels:
        """Computes the cell labels of one frame from ``gt_depth`` and ``gt_foreground``."""
        gt_depth, gt_foreground = (
            self.views(batched_inputs, key, frame) for key in ("gt_depth", "gt_foreground")
        )
        return downsample_labels(gt_depth, gt_foreground, self.depth_bins, self.stride)

    def stack_images(self, batched_inputs: list[dict]) -> Tensor:
        """Concatenates the images of a batch to (T, V, 3, H, W) on the model's device.

        Raises:
            ValueError: samples differ in image size or number of frames, or there are not
                ``num_frames`` frames.
        """
        images = self._concatenate(batched_inputs, "images", dim=1)
        if len(images) != self.num_frames:
            raise ValueError(
                f"the model takes {self.num_frames} frames, but images have {len(images)}; set "
                "num_frames of the model and of the data to the same value"
            )
        return images

    def sample_paste_transforms(self, batch_size: int) -> Tensor | None:
        """Draws (B, 4, 4) transforms of BEV-Paste on the CPU; None in evaluation or without it."""
        if not self.training or self.bev_paste is None:
            return None
        return self.bev_paste.sample_transforms(batch_size)

    def views_to_bev(
        self, cameras: Cameras, image_size: tuple[int, int], transforms: Tensor | None
    ) -> list[ViewToBEV]:
        """Composes the transforms from image to BEV for each frame.

        Args:
            cameras: calibration of the batch, on the CPU.
            image_size: (H, W) of the network image, pixels.
            transforms: (B, 4, 4) transforms of BEV-Paste, or None.

        Returns:
            One ``ViewToBEV`` per frame, on the model's device.
        """
        # The matrices are small and float64. Composing them on the CPU avoids many tiny kernels,
        # and inverting them on a GPU would make the host wait for it.
        frames = [ViewToBEV.of_frame(cameras, t, image_size) for t in range(self.num_frames)]
        if transforms is not None:
            frames = [self.bev_paste.paste_views(frame, transforms) for frame in frames]
        return [frame.to(self.device) for frame in frames]

    def views(self, batched_inputs: list[dict], key: str, frame: int | None = None) -> Tensor:
        """Concatenates the values of all views, one sample after the other.

        Args:
            batched_inputs: the samples.
            key: key of the sample dicts, whose values are (N, ...), or (T, N, ...) with ``frame``.
            frame: index of the frame to take from each value.

        Returns:
            (V, ...) on the model's device.

        Raises:
            ValueError: values of samples differ in shape, other than in N.
        """
        return self._concatenate(batched_inputs, key, dim=0, frame=frame)

    def _concatenate(
        self, batched_inputs: list[dict], key: str, *, dim: int, frame: int | None = None
    ) -> Tensor:
        """Concatenates the values of ``key``, or of one frame of each, along the camera axis."""
        values = [torch.as_tensor(sample[key]) for sample in batched_inputs]
        _check_shapes(batched_inputs, key, values, cameras=dim if frame is None else 1)
        if frame is not None:
            values = [value[frame] for value in values]
        # Moved one by one: the loader's tensors are in pinned memory, from which copies are
        # asynchronous; a tensor concatenated on the CPU would not be.
        return torch.cat([value.to(self.device, non_blocking=True) for value in values], dim=dim)


def _check_shapes(
    batched_inputs: list[dict], key: str, values: Sequence[Tensor], cameras: int
) -> None:
    """Checks that values agree in shape, except for the dimension ``cameras``.

    Raises:
        ValueError: they do not; the message names two samples that differ, and the remedy.
    """
    shapes = [(*value.shape[:cameras], *value.shape[cameras + 1 :]) for value in values]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            first, other = (batched_inputs[i].get("sample_token", f"{i}") for i in (0, number))
            raise ValueError(
                f"samples of a batch must agree in image size and number of frames, but {key} of "
                f"sample {first} is {tuple(values[0].shape)} and of sample {other} "
                f"{tuple(values[number].shape)}; load them with one mapper, or in separate batches"
            )
