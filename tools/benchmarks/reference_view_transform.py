"""The published view transform, stated anew in plain PyTorch: what BEVDet's voxel pooling and the
models that follow it compute, step by step.

A template of the frustum's points in float32 goes through every camera's matrices as one large
tensor; points become whole cells; those that take part are gathered, ranked by sample and cell and
sorted; every run of equal ranks is summed. How many take part has to be known in between, so that
on a GPU the host waits. Runs are summed by ``embedding_bag``, which multiplies by the weights as it
sums: of what PyTorch offers it is nearest to the published CUDA kernel, and the fastest.

Letters: S weight sets, B samples, N cameras, D depth bins, C channels, h x w feature map, Y x X BEV
grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fsdbev.layers import Frustum
from fsdbev.structures import Cameras


class ReferenceViewTransform:
    """Frustum, rank, argsort, interval sum.

    Args:
        cameras: one frame of B samples.
        frustum: the points and the grid.
        num_bins: D.
        feature_size: (h, w).
        depth_threshold: smallest weight that takes part.
        foreground_threshold: smallest foreground that takes part.
        paste: (B, 4, 4) transforms of BEV-paste, by which every sample receives the next one's
            points too, if there is another; None: no BEV-paste.
    """

    def __init__(
        self,
        *,
        cameras: Cameras,
        frustum: Frustum,
        num_bins: int,
        feature_size: tuple[int, int],
        depth_threshold: float,
        foreground_threshold: float,
        paste: Tensor | None = None,
    ) -> None:
        self.thresholds = (depth_threshold, foreground_threshold)
        self.image_rotation, self.image_shift = _parts(cameras.image_aug)
        self.cam2ego = _parts(cameras.cam2keyego[:, 0])
        self.intrinsics = cameras.intrinsics[:, 0].float()
        self.bev_aug = _parts(cameras.bev_aug)[0]
        self.paste = None if paste is None else _parts(paste.to(self.bev_aug))[0]
        device = self.bev_aug.device
        self.lower = torch.tensor(frustum.lower, device=device)
        self.size = torch.tensor(frustum.size, device=device)
        self.count = torch.tensor(frustum.count, device=device)
        self.grid_size = (frustum.count[1], frustum.count[0])
        depth = frustum.depth_start + frustum.depth_step * torch.arange(num_bins, device=device)
        rows, columns = (
            torch.linspace(0, pixels - 1, features, device=device)
            for pixels, features in zip(frustum.image_size, feature_size)
        )
        d, v, u = torch.meshgrid(depth.float(), rows, columns, indexing="ij")
        self.template = torch.stack([u, v, d], dim=-1)

    def __call__(self, weights: Tensor, foreground: Tensor, context: Tensor) -> Tensor:
        """Arguments and result as of ``fsdbev.layers.lift_splat``, views being samples' cameras."""
        return self.pooled(self.places(), weights, foreground, context)

    def places(self) -> list[Tensor]:
        """(B, N, D, h, w, 3) metres in the BEV frame: of every sample's own frustum points and,
        with BEV-paste, of those that it receives."""
        points = self._points()
        if self.paste is None:
            return [points]
        received = [points, points.roll(-1, dims=0)][: len(points)]
        return [_turned(self.paste, p) for p in received]

    def pooled(
        self, places: Sequence[Tensor], weights: Tensor, foreground: Tensor, context: Tensor
    ) -> Tensor:
        """The part that follows :meth:`places`, which a rig that never moves needs only once."""
        batch, cameras, bins, height, width, _ = places[0].shape
        context = context.view(batch, cameras, -1, height, width)
        maps = []
        for depth, mask in zip(weights, foreground):
            depth = depth.view(batch, cameras, bins, height, width)
            mask = mask.view(batch, cameras, 1, height, width)
            kept = (depth >= self.thresholds[0]) & (mask >= self.thresholds[1])
            bev = self._pool(places[0], depth, kept, context)
            for points in places[1:]:
                rolled = (tensor.roll(-1, dims=0) for tensor in (depth, kept, context))
                bev = bev + self._pool(points, *rolled)
            maps.append(bev)
        return torch.stack(maps) if len(maps) > 1 else maps[0][None]

    def cells(self, points: Tensor) -> Tensor:
        """(..., 3) metres -> (..., 3) int64 cells, which may lie outside the grid."""
        return ((points - self.lower) / self.size).long()

    def cell_numbers(self) -> Tensor:
        """(B N, D, h, w) as ``fsdbev.layers.frustum_cells`` gives them."""
        cells = self.cells(self._points())
        number = cells[..., 1] * self.grid_size[1] + cells[..., 0]
        return torch.where(self._inside(cells), number, -1).flatten(0, 1)

    def _points(self) -> Tensor:
        """(B, N, D, h, w, 3) metres in the augmented BEV frame."""
        points = self.template - _spread(self.image_shift)
        points = _turned(self.image_rotation.inverse(), points)
        points = torch.cat([points[..., :2] * points[..., 2:], points[..., 2:]], dim=-1)
        rotation, shift = self.cam2ego
        points = _turned(rotation @ self.intrinsics.inverse(), points) + _spread(shift)
        return _turned(self.bev_aug[:, None], points)

    def _inside(self, cells: Tensor) -> Tensor:
        return ((cells >= 0) & (cells < self.count)).all(dim=-1)

    def _pool(self, points: Tensor, depth: Tensor, kept: Tensor, context: Tensor) -> Tensor:
        """(B, C, Y, X) sums of depth times context over the frustum points that are kept."""
        batch, channels = context.shape[0], context.shape[2]
        num_cells = self.grid_size[0] * self.grid_size[1]
        cells = self.cells(points).flatten(0, -2)
        device = cells.device
        number = torch.arange(len(cells), device=device)
        sample = torch.arange(batch, device=device).repeat_interleave(len(cells) // batch)
        pixel = torch.arange(context.numel() // channels, device=device)
        pixel = pixel.view_as(context[:, :, :1]).expand_as(depth).flatten()

        chosen = kept.flatten() & self._inside(cells)
        cells, number, sample, pixel = cells[chosen], number[chosen], sample[chosen], pixel[chosen]
        rank = sample * num_cells + cells[:, 1] * self.grid_size[1] + cells[:, 0]
        order = rank.argsort()
        rank, number, pixel = rank[order], number[order], pixel[order]
        changes = torch.ones_like(rank, dtype=torch.bool)
        changes[1:] = rank[1:] != rank[:-1]
        start = torch.where(changes)[0]

        features = context.permute(0, 1, 3, 4, 2).reshape(-1, channels)
        share = depth.flatten()[number]
        sums = F.embedding_bag(pixel, features, start, mode="sum", per_sample_weights=share)
        bev = features.new_zeros(batch * num_cells, channels).index_copy(0, rank[start], sums)
        return bev.view(batch, *self.grid_size, channels).permute(0, 3, 1, 2).contiguous()


def _parts(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 4, 4) -> (..., 3, 3) and (..., 3) float32."""
    matrices = matrices.float()
    return matrices[..., :3, :3].contiguous(), matrices[..., :3, 3].contiguous()


def _spread(vectors: Tensor) -> Tensor:
    """(B, N, 3) -> (B, N, 1, 1, 1, 3)."""
    return vectors[:, :, None, None, None]


def _turned(matrices: Tensor, points: Tensor) -> Tensor:
    """(B, 3, 3) or (B, N or 1, 3, 3) matrices on (B, N, D, h, w, 3) points, all at once."""
    if matrices.dim() == 3:
        matrices = matrices[:, None]
    return _spread(matrices.flatten(-2)).unflatten(-1, (3, 3)).matmul(points[..., None])[..., 0]
