"""View transform: lift by depth, mask the background, splat into BEV (SPEC section 6).

Shapes: B samples, N cameras, V = B N views, P splats, S weight sets (student, teacher),
C channels, D depth bins, (H, W) image size, (h, w) = (H, W) / 16, (Y, X) BEV grid.
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
    """Which view is splat into which sample's BEV map, and where it lies there.

    Attributes:
        view: (P,) int64 view.
        sample: (P,) int64 sample whose map receives it.
        undo_image_aug: (V, 4, 4) network image (u, v, depth) -> original image (u, v, depth).
        image2bev: (P, 4, 4) original image (u depth, v depth, depth) -> BEV frame, metres.
        num_samples: B.
        image_size: (H, W) of the network image.
        cells: (P, D, h, w) int32 cells of all frustum points, where they have been computed
            beforehand (:meth:`ViewTransform.with_cells`); then no geometry is done.
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
        """Every view into its own sample, by its own pose at ``frame``."""
        image2bev = cameras.image2bev(frame)
        num_samples, num_cameras = (int(size) for size in image2bev.shape[:2])
        view = torch.arange(num_samples * num_cameras, device=image2bev.device)
        return cls(
            view=view,
            sample=view // num_cameras,
            undo_image_aug=cameras.undo_image_aug().flatten(0, 1),
            image2bev=image2bev.flatten(0, 1),
            num_samples=num_samples,
            image_size=tuple(int(size) for size in image_size),
        )

    def to(self, device: torch.device | str) -> ViewToBEV:
        """The same on another device."""
        tensors = {n: v for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **{n: v.to(device, non_blocking=True) for n, v in tensors.items()})


@PART_REGISTRY.register()
class ViewTransform(nn.Module):
    """Pools lifted features into BEV maps; has no parameters. Runs in float32.

    A frustum point takes part if its depth weight is at least ``depth_threshold`` and its pixel's
    foreground probability at least ``foreground_threshold``.

    Args:
        grid: the BEV grid.
        depth_bins: depths of the frustum.
        foreground_threshold: least foreground probability of a pixel.
        depth_threshold: least depth weight of a point; None for 1 / D, 0 lets all take part.
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

    @full_precision
    def forward(
        self,
        weights: Tensor,
        foreground: Tensor,
        context: Tensor,
        view_to_bev: ViewToBEV,
    ) -> Tensor:
        """Pools one frame.

        Args:
            weights: (S, V, D, h, w) depth weights.
            foreground: (S, V, h, w) foreground probability; a mask, it takes no gradient.
            context: (V, C, h, w).
            splats: where the views go.

        Returns:
            (S, B, C, Y, X) float32 BEV maps.
        """
        places = dict(
            view=view_to_bev.view,
            output=view_to_bev.sample,
            num_outputs=view_to_bev.num_samples,
            depth_threshold=self.depth_threshold,
            foreground_threshold=self.foreground_threshold,
        )
        if view_to_bev.cells is not None:
            grid_size = self.grid.shape
            return splat_cells(
                weights, foreground, context, view_to_bev.cells, grid_size=grid_size, **places
            )
        return lift_splat(
            weights,
            foreground,
            context,
            undo_image_aug=view_to_bev.undo_image_aug,
            image2bev=view_to_bev.image2bev,
            frustum=self._frustum(view_to_bev.image_size),
            **places,
        )

    def masked_weights(self, weights: Tensor, foreground: Tensor) -> Tensor:
        """(S, V, D, h, w) depth weights and (S, V, h, w) foreground -> the weights of the frustum
        points that take part, 0 of all others."""
        return weights * passes_thresholds(
            weights, foreground, self.depth_threshold, self.foreground_threshold
        )

    def with_cells(self, view_to_bev: ViewToBEV, feature_size: tuple[int, int]) -> ViewToBEV:
        """The same splats with their cells computed, for as long as cameras and augmentation stay
        as they are: a static rig, or a model to be exported. ``feature_size``: (h, w)."""
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
