"""The model in evaluation as a function of tensors, with sizes known beforehand: what is exported.

Shapes: B samples, T frames (0 is the key frame), N cameras, V = B T N views, K tasks, M candidates
of a task, R detections at most, C channels of the embedded image features, D depth bins, (H, W)
image size, (h, w) = (H, W) / 16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsdbev.modeling import FSDBEV, ImageFeatures
from fsdbev.modeling.center_head.decode import BoxDecoder, Candidates, to_front, top_candidates
from fsdbev.modeling.view_transform import ViewToBEV

#: Lower than any score: which boxes score too low is decided when a graph runs.
_NO_THRESHOLD = -1.0


@dataclass(frozen=True)
class GraphOptions:
    """What a graph takes and gives.

    Attributes:
        stream: it takes the images of the key frame, and of the earlier frames the image features
            that it gave when they were key frames; otherwise the images of all frames.
        cells: it takes the BEV cells of all frustum points; otherwise the matrices that they come
            from.
        nms: it gives detections; otherwise the candidates that NMS would look at.
    """

    stream: bool = False
    cells: bool = False
    nms: bool = True

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of the graph's outputs, in their order."""
        names = ("boxes", "scores", "classes")
        names += ("count",) * self.nms
        return names + ("features", "foreground") * self.stream


class DeploymentGraph(nn.Module):
    """A model as a graph of tensors. All frames of all samples pass every part together.

    Args:
        model: in evaluation mode, on the device where the graph will run.
        batch_size: B.
        num_cameras: N.
        options: what the graph takes and gives.

    Raises:
        ValueError: the model is no FSDBEV, or has no earlier frames to stream.
    """

    def __init__(
        self, model: nn.Module, *, batch_size: int, num_cameras: int, options: GraphOptions
    ) -> None:
        super().__init__()
        if not isinstance(model, FSDBEV):
            raise ValueError(f"only an FSDBEV can be exported, got a {type(model).__name__}")
        if options.stream and model.num_frames == 1:
            raise ValueError("a model of one frame has nothing to keep: export it without stream")
        self.model = model
        self.options = options
        self.num_maps = batch_size * model.num_frames
        head, device = model.head, model.device
        self.decoder = BoxDecoder(
            tasks=head.tasks,
            class_ids=head.class_ids,
            grid=head.grid,
            max_candidates=head.decoder.max_candidates,
            score_threshold=_NO_THRESHOLD,
            center_range=head.decoder.center_range,
        ).to(device)
        view = torch.arange(self.num_maps * num_cameras, device=device)
        constants = {
            "view": view,
            "map_of_view": view // num_cameras,
            "place_in_tasks": self.decoder.class_ids.argsort(),
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
        """What each input and output means stands in ``metadata.INPUTS`` and ``OUTPUTS``.

        Args:
            images: (B, T, N, 3, H, W) uint8; of a stream (B, N, 3, H, W).
            camera_vector: (B, N, 27) float32.
            score_threshold: () float32.
            undo_image_aug: (B, N, 4, 4) float64, unless the graph takes cells.
            image2bev: (B, T, N, 4, 4) float64, likewise.
            cells: (B, T, N, D, h, w) int32, if it does.
            earlier_features: (B, T - 1, N, C, h, w) float32, of a stream.
            earlier_foreground: (B, T - 1, N, h, w) float32, likewise.
            has_earlier: (B, T - 1) bool, likewise.

        Returns:
            with NMS ``boxes`` (B, R, 9), ``scores`` (B, R), ``classes`` (B, R) and ``count`` (B,);
            otherwise ``boxes`` (B, K, M, 9), ``scores`` (B, K, M), ``classes`` (B, K, M). Of a
            stream also ``features`` (B, N, C, h, w) and ``foreground`` (B, N, h, w).
        """
        model, num_frames = self.model, self.model.num_frames
        if self.options.stream:
            own = _by_sample(model.extract_image_features(images), len(images))
            image = _with_earlier(own, earlier_features, earlier_foreground, has_earlier)
        else:
            image = model.extract_image_features(images.flatten(0, 1))
        frames = model.predict_depth(image, camera_vector.repeat_interleave(num_frames, dim=0))
        view_to_bev = self._splats(images.shape[-2:], undo_image_aug, image2bev, cells)
        bev_maps = model.pool(frames, view_to_bev, labels=None)
        bev_feats = model.bev_encoder(bev_maps.unflatten(0, (-1, num_frames)).flatten(1, 2))
        candidates = self._candidates(model.head(bev_feats), score_threshold)
        outputs = self._detections(candidates) if self.options.nms else self._named(candidates)
        if self.options.stream:
            outputs |= {"features": own.features, "foreground": own.foreground}
        return outputs

    def suppress(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """NMS for a graph without it: its outputs -> those of a graph with it. The reference for
        who writes this step anew."""
        classes = self.place_in_tasks[outputs["classes"]]
        return self._detections(Candidates(outputs["boxes"], outputs["scores"], classes))

    def _splats(
        self,
        image_size: tuple[int, int],
        undo_image_aug: Tensor | None,
        image2bev: Tensor | None,
        cells: Tensor | None,
    ) -> ViewToBEV:
        """Every view into the map of its own sample and frame."""
        if cells is None:
            undo_image_aug = undo_image_aug.repeat_interleave(self.model.num_frames, dim=0)
            undo_image_aug, image2bev = undo_image_aug.flatten(0, 1), image2bev.flatten(0, 2)
        return ViewToBEV(
            view=self.view,
            sample=self.map_of_view,
            undo_image_aug=undo_image_aug,  # with cells nobody looks at the matrices
            image2bev=image2bev,
            num_samples=self.num_maps,
            image_size=tuple(image_size),
            cells=None if cells is None else cells.flatten(0, 2),
        )

    def _candidates(
        self, predictions: list[dict[str, Tensor]], score_threshold: Tensor
    ) -> Candidates:
        """(B, K, M) boxes, -inf as the score of those that score too low or lie out of range;
        classes count on from task to task."""
        best = top_candidates(
            predictions, grid=self.decoder.grid, max_candidates=self.decoder.max_candidates
        )
        candidates = self.decoder.drop_invalid(best)
        too_low = ~(candidates.scores > score_threshold)
        return replace(candidates, scores=candidates.scores.masked_fill(too_low, -math.inf))

    def _named(self, candidates: Candidates) -> dict[str, Tensor]:
        outputs = vars(candidates)
        return outputs | {"classes": self.decoder.class_ids[candidates.classes]}

    def _detections(self, candidates: Candidates) -> dict[str, Tensor]:
        keep, num_kept = self.decoder.suppress(candidates)
        return self._named(to_front(candidates, keep)) | {"count": num_kept.sum(dim=1)}


def _by_sample(image: ImageFeatures, batch_size: int) -> ImageFeatures:
    """Features of B N views -> (B, N, ...)."""
    return ImageFeatures(
        features=image.features.unflatten(0, (batch_size, -1)),
        foreground=image.foreground.unflatten(0, (batch_size, -1)),
    )


def _with_earlier(
    own: ImageFeatures, features: Tensor, foreground: Tensor, has_earlier: Tensor
) -> ImageFeatures:
    """(B, N, ...) of the key frames and (B, T - 1, N, ...) of the earlier ones -> of all V views;
    the key frame stands in for a frame that is not there."""

    def joined(own: Tensor, earlier: Tensor) -> Tensor:
        is_there = has_earlier.view(*has_earlier.shape, *[1] * (own.dim() - 1))
        earlier = torch.where(is_there, earlier, own[:, None])
        return torch.cat([own[:, None], earlier], dim=1).flatten(0, 2)

    return ImageFeatures(
        features=joined(own.features, features), foreground=joined(own.foreground, foreground)
    )
