"""Graphs for export: the evaluation of a model as a function of tensors with fixed sizes.

Shapes: B samples, T frames (0 is the key frame), N cameras, V = B T N views, K groups of classes,
M candidates of a group, R detections at most, C channels of the embedded image features, D depth
bins, (H, W) image size, (h, w) = (H, W) / 16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsdbev.modeling import FSDBEV, ImageFeatures
from fsdbev.modeling.center_head.decode import BoxDecoder, Candidates, gather_kept, top_candidates
from fsdbev.modeling.view_transform import ViewToBEV

#: Lower than any score, because the score threshold is an input of the graph.
_NO_THRESHOLD = -1.0


@dataclass(frozen=True)
class GraphOptions:
    """Inputs and outputs of a graph.

    Attributes:
        stream: whether the graph takes the images of the key frame only, and for earlier frames
            the image features that it returned when they were key frames. Otherwise it takes the
            images of all frames.
        cells: whether the graph takes the BEV cells of all frustum points. Otherwise it takes
            camera matrices and computes the cells.
        nms: whether the graph returns detections. Otherwise it returns candidates before NMS.
    """

    stream: bool = False
    cells: bool = False
    nms: bool = True

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs in their order."""
        names = ("boxes", "scores", "classes")
        names += ("count",) * self.nms
        return names + ("features", "foreground") * self.stream


class DeploymentGraph(nn.Module):
    """Evaluation of an FSDBEV model as a graph of tensors.

    All frames of all samples pass through each part of the model as one batch.

    Args:
        model: an FSDBEV in evaluation mode, on the device where the graph will run.
        batch_size: B.
        num_cameras: N.
        options: inputs and outputs of the graph.

    Raises:
        ValueError: the model is not an FSDBEV, or ``stream`` is set for a model of one frame.
    """

    def __init__(
        self, model: nn.Module, *, batch_size: int, num_cameras: int, options: GraphOptions
    ) -> None:
        super().__init__()
        if not isinstance(model, FSDBEV):
            raise ValueError(f"only an FSDBEV can be exported, got a {type(model).__name__}")
        if options.stream and model.num_frames == 1:
            raise ValueError("a model of one frame cannot be streamed: export it without stream")
        self.model = model
        self.options = options
        self.num_maps = batch_size * model.num_frames
        head, device = model.head, model.device
        # A second decoder, because the threshold of the model's own must not change.
        self.decoder = BoxDecoder(
            classes=head.classes,
            grid=head.grid,
            max_candidates=head.decoder.max_candidates,
            score_threshold=_NO_THRESHOLD,
            center_range=head.decoder.center_range,
        ).to(device)
        view = torch.arange(self.num_maps * num_cameras, device=device)
        constants = {
            "view": view,
            "map_of_view": view // num_cameras,
            # class_ids is a permutation, and argsort returns its inverse.
            "place_in_groups": self.decoder.class_ids.argsort(),
        }
        for name, values in constants.items():
            self.register_buffer(name, values, persistent=False)
        self.eval()

    def forward(
        self,
        images: Tensor,
        camera_vector: Tensor,
        score_threshold: Tensor,
        undo_image_aug: Tensor | None = None,
        image2bev: Tensor | None = None,
        cells: Tensor | None = None,
        earlier_features: Tensor | None = None,
        earlier_foreground: Tensor | None = None,
        has_earlier: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Detects boxes. ``metadata.INPUTS`` and ``OUTPUTS`` describe all inputs and outputs.

        Args:
            images: (B, T, N, 3, H, W) uint8; for a stream (B, N, 3, H, W).
            camera_vector: (B, N, 27) float32.
            score_threshold: () float32.
            undo_image_aug: (B, N, 4, 4) float64, for a graph without ``cells``.
            image2bev: (B, T, N, 4, 4) float64, for a graph without ``cells``.
            cells: (B, T, N, D, h, w) int32, for a graph with ``cells``.
            earlier_features: (B, T - 1, N, C, h, w) float32, for a stream.
            earlier_foreground: (B, T - 1, N, h, w) float32, for a stream.
            has_earlier: (B, T - 1) bool, for a stream.

        Returns:
            With NMS ``boxes`` (B, R, 9), ``scores`` (B, R), ``classes`` (B, R) and ``count`` (B,);
            otherwise ``boxes`` (B, K, M, 9), ``scores`` (B, K, M), ``classes`` (B, K, M). A stream
            also returns ``features`` (B, N, C, h, w) and ``foreground`` (B, N, h, w).
        """
        model, num_frames = self.model, self.model.num_frames
        if self.options.stream:
            key_frame = _by_sample(model.extract_image_features(images.flatten(0, 1)), len(images))
            image = _with_earlier(key_frame, earlier_features, earlier_foreground, has_earlier)
        else:
            image = model.extract_image_features(images.flatten(0, 2))
        # All frames have the camera vector of the key frame (docs/model.md, "Depth network").
        camera_vector = camera_vector.repeat_interleave(num_frames, dim=0).flatten(0, 1)
        frames = model.predict_depth(image, camera_vector)
        view_to_bev = self._view_to_bev(images.shape[-2:], undo_image_aug, image2bev, cells)
        bev_maps = model.pool(frames, view_to_bev, labels=None)
        bev_feats = model.bev_encoder(bev_maps.unflatten(0, (-1, num_frames)).flatten(1, 2))
        candidates = self._candidates(model.head(bev_feats), score_threshold)
        outputs = self._detections(candidates) if self.options.nms else self._named(candidates)
        if self.options.stream:
            outputs |= {"features": key_frame.features, "foreground": key_frame.foreground}
        return outputs

    def suppress(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Applies NMS to the outputs of a graph without NMS.

        This is the reference implementation for runtimes that apply NMS themselves.
        """
        # Class ids back to places in the order of the groups, by which the decoder scales boxes.
        classes = self.place_in_groups[outputs["classes"]]
        return self._detections(Candidates(outputs["boxes"], outputs["scores"], classes))

    def _view_to_bev(
        self,
        image_size: tuple[int, int],
        undo_image_aug: Tensor | None,
        image2bev: Tensor | None,
        cells: Tensor | None,
    ) -> ViewToBEV:
        """Assigns each view to the BEV map of its sample and frame."""
        if cells is None:
            undo_image_aug = undo_image_aug.repeat_interleave(self.model.num_frames, dim=0)
            undo_image_aug, image2bev = undo_image_aug.flatten(0, 1), image2bev.flatten(0, 2)
        return ViewToBEV(
            view=self.view,
            sample=self.map_of_view,
            undo_image_aug=undo_image_aug,  # None with cells, which make the matrices unused
            image2bev=image2bev,
            num_samples=self.num_maps,
            image_size=tuple(image_size),
            cells=None if cells is None else cells.flatten(0, 2),
        )

    def _candidates(
        self, predictions: list[dict[str, Tensor]], score_threshold: Tensor
    ) -> Candidates:
        """Returns (B, K, M) candidates, whose classes are numbered through all groups.

        Candidates below the threshold or out of range have a score of -inf.
        """
        best = top_candidates(
            predictions, grid=self.decoder.grid, max_candidates=self.decoder.max_candidates
        )
        candidates = self.decoder.drop_invalid(best)
        # Negated, so that a score of NaN is dropped too.
        too_low = ~(candidates.scores > score_threshold)
        return replace(candidates, scores=candidates.scores.masked_fill(too_low, -math.inf))

    def _named(self, candidates: Candidates) -> dict[str, Tensor]:
        """Returns boxes, scores and class ids by output name."""
        outputs = vars(candidates)
        return outputs | {"classes": self.decoder.class_ids[candidates.classes]}

    def _detections(self, candidates: Candidates) -> dict[str, Tensor]:
        """Applies NMS and moves the kept boxes to the front."""
        keep, num_kept = self.decoder.suppress(candidates)
        return self._named(gather_kept(candidates, keep)) | {"count": num_kept.sum(dim=1)}


def _by_sample(image: ImageFeatures, batch_size: int) -> ImageFeatures:
    """Splits the features of B N views into (B, N, ...)."""
    return ImageFeatures(
        features=image.features.unflatten(0, (batch_size, -1)),
        foreground=image.foreground.unflatten(0, (batch_size, -1)),
    )


def _with_earlier(
    key_frame: ImageFeatures, features: Tensor, foreground: Tensor, has_earlier: Tensor
) -> ImageFeatures:
    """Joins (B, N, ...) features of key frames and (B, T - 1, N, ...) features of earlier frames.

    The key frame replaces missing frames. Returns the features of all V views.
    """

    def joined(current: Tensor, earlier: Tensor) -> Tensor:
        exists = has_earlier.view(*has_earlier.shape, *[1] * (current.dim() - 1))
        # Not a product with the mask: features of missing frames may be NaN.
        earlier = torch.where(exists, earlier, current[:, None])
        return torch.cat([current[:, None], earlier], dim=1).flatten(0, 2)

    return ImageFeatures(
        features=joined(key_frame.features, features),
        foreground=joined(key_frame.foreground, foreground),
    )
