"""View transform: lift by depth, mask the background, splat into BEV.

Lift, Splat, Shoot (arXiv:2008.05711) with masks (docs/model.md, "View transform").

Shapes: B samples, V views (the cameras of all samples), P (view, sample) pairs, S weight sets
(student, teacher), C channels, D depth bins, (H, W) image size, (h, w) = (H, W) / stride, (Y, X)
BEV grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsdbev.layers import Frustum, frustum_cells, lift_splat, passes_thresholds, splat_cells
from fsdbev.structures import BEVGrid, Cameras, DepthBins

from .precision import full_precision
from .registry import PART_REGISTRY


@dataclass(frozen=True)
class ViewToBEV:
    """Pairs of view and receiving sample for one frame, with the transforms from image to BEV.

    Attributes:
        view: (P,) int64 index of the view, 0 .. V - 1.
        sample: (P,) int64 index of the sample whose BEV map receives the view, 0 .. B - 1.
        undo_image_aug: (V, 4, 4) network image (u, v, depth) -> original image (u, v, depth).
        image2bev: (P, 4, 4) original image (u depth, v depth, depth) -> augmented key ego, metres.
        num_samples: B.
        image_size: (H, W) of the network image, pixels.
        cells: (P, D, h, w) int32 BEV cells of all frustum points, precomputed by
            :meth:`ViewTransform.with_cells`; None to compute them in every call.
    """

    view: Tensor
    sample: Tensor
    undo_image_aug: Tensor
    image2bev: Tensor
    num_samples: int
    image_size: tuple[int, int]
    cells: Tensor | None = None

    @classmethod
    def of_frame(cls, cameras: Cameras, frame: int, image_size: tuple[int, int]) -> ViewToBEV:
        """Builds one pair per view of a frame: the view and its own sample.

        Args:
            cameras: calibration of the batch.
            frame: 0 for the key frame, 1 for the frame before it, and so on.
            image_size: (H, W) of the network image, pixels.
        """
        return cls(
            view=torch.arange(cameras.num_views, device=cameras.sample.device),
            sample=cameras.sample,
            undo_image_aug=cameras.undo_image_aug(),
            image2bev=cameras.image2bev(frame),
            num_samples=cameras.num_samples,
            image_size=tuple(int(size) for size in image_size),
        )

    def to(self, device: torch.device | str) -> ViewToBEV:
        """Returns a copy on ``device``."""
        tensors = {n: v for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **{n: v.to(device, non_blocking=True) for n, v in tensors.items()})


@PART_REGISTRY.register()
class ViewTransform(nn.Module):
    """Pools lifted image features into BEV maps. Has no parameters and runs in float32.

    A frustum point is pooled if its depth weight is at least ``depth_threshold`` and the foreground
    probability of its pixel at least ``foreground_threshold``.

    Args:
        grid: the BEV grid.
        depth_bins: the depth bins of the frustum.
        foreground_threshold: smallest foreground probability of a pooled pixel.
        depth_threshold: smallest depth weight of a pooled point; None for 1 / D, the weight of a
            uniform distribution; 0 pools all points.
    """

    def __init__(
        self,
        *,
        grid: BEVGrid,
        depth_bins: DepthBins,
        foreground_threshold: float = 0.1,
        depth_threshold: float | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.depth_bins = depth_bins
        self.foreground_threshold = foreground_threshold
        self.depth_threshold = 1 / depth_bins.count if depth_threshold is None else depth_threshold

    # In float32: a cell sums many points, and weights are compared with 1 / D, where rounding to
    # half precision would change the set of pooled points.
    @full_precision
    def forward(
        self,
        weights: Tensor,
        foreground: Tensor,
        context: Tensor,
        view_to_bev: ViewToBEV,
    ) -> Tensor:
        """Pools the views of one frame.

        Args:
            weights: (S, V, D, h, w) depth weights.
            foreground: (S, V, h, w) foreground probability; only masks, without gradient.
            context: (V, C, h, w) context features.
            view_to_bev: receiving samples and transforms of the views.

        Returns:
            (S, B, C, Y, X) float32 BEV maps.
        """
        options = dict(
            view=view_to_bev.view,
            output=view_to_bev.sample,
            num_outputs=view_to_bev.num_samples,
            depth_threshold=self.depth_threshold,
            foreground_threshold=self.foreground_threshold,
        )
        if view_to_bev.cells is not None:
            grid_size = self.grid.shape
            return splat_cells(
                weights, foreground, context, view_to_bev.cells, grid_size=grid_size, **options
            )
        return lift_splat(
            weights,
            foreground,
            context,
            undo_image_aug=view_to_bev.undo_image_aug,
            image2bev=view_to_bev.image2bev,
            frustum=self._frustum(view_to_bev.image_size),
            **options,
        )

    def masked_weights(self, weights: Tensor, foreground: Tensor) -> Tensor:
        """Sets the depth weights of points that are not pooled to 0.

        Args:
            weights: (S, V, D, h, w) depth weights.
            foreground: (S, V, h, w) foreground probability.

        Returns:
            (S, V, D, h, w) masked depth weights.
        """
        return weights * passes_thresholds(
            weights, foreground, self.depth_threshold, self.foreground_threshold
        )

    def with_cells(self, view_to_bev: ViewToBEV, feature_size: tuple[int, int]) -> ViewToBEV:
        """Returns a copy with precomputed BEV cells of all frustum points.

        The cells are valid as long as calibration and augmentation do not change, as for a static
        rig or an exported model.

        Args:
            view_to_bev: pairs to compute the cells of.
            feature_size: (h, w) of the depth network's map.
        """
        cells = frustum_cells(
            undo_image_aug=view_to_bev.undo_image_aug,
            image2bev=view_to_bev.image2bev,
            view=view_to_bev.view,
            num_bins=self.depth_bins.count,
            feature_size=feature_size,
            frustum=self._frustum(view_to_bev.image_size),
        )
        return replace(view_to_bev, cells=cells)

    def _frustum(self, image_size: tuple[int, int]) -> Frustum:
        return Frustum(
            image_size=image_size,
            depth_start=self.depth_bins.start,
            depth_step=self.depth_bins.step,
            lower=self.grid.lower,
            size=self.grid.size,
            count=self.grid.count,
        )
