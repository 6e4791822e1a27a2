"""The view transform of BEVDet's voxel pooling and the releases based on it, in PyTorch.

The matrices of every camera transform one float32 template of the frustum points; the points become
integer cells; the points that pass both thresholds are ranked by sample and cell and sorted; every
run of equal ranks is summed. The host waits for a GPU, because it needs the number of points.
``embedding_bag`` sums the runs: it is the fastest operator of PyTorch for this, and the nearest to
the released CUDA kernel.

Shapes: S weight sets, B samples, N cameras, D depth bins, C channels, h x w feature map, Y x X BEV
grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fsdbev.layers import Frustum
from fsdbev.structures import Cameras


class PublishedViewTransform:
    """View transform by frustum points, ranks, argsort and sums of intervals.

    Args:
        cameras: cameras of one frame of B samples.
        frustum: depths of the frustum points and the grid.
        num_bins: D.
        feature_size: (h, w).
        depth_threshold: smallest depth weight of a point that is summed.
        foreground_threshold: smallest foreground probability of the pixel of such a point.
        paste: (B, 4, 4) transforms of BEV-Paste, with which every sample also receives the next
            sample's points if the batch has more than one; None disables BEV-Paste.
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
        # All samples have the same number of cameras here.
        by_sample = (cameras.num_samples, -1)
        self.image_rotation, self.image_shift = _parts(cameras.image_aug.unflatten(0, by_sample))
        self.cam2ego = _parts(cameras.cam2keyego[0].unflatten(0, by_sample))
        self.intrinsics = cameras.intrinsics[0].unflatten(0, by_sample).float()
        self.bev_aug = _parts(cameras.bev_aug)[0]
        device = self.bev_aug.device
        self.paste = None if paste is None else _parts(paste.to(device))[0]
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
        """Computes BEV maps (S, B, C, Y, X) from weights (S, B N, D, h, w), foreground
        (S, B N, h, w) and context (B N, C, h, w)."""
        return self.pooled(self.points(), weights, foreground, context)

    def points(self) -> list[Tensor]:
        """Returns every sample's frustum points (B, N, D, h, w, 3) in metres in the BEV frame,
        followed by the points that it receives with BEV-Paste."""
        points = self.template - _expanded(self.image_shift)
        points = _rotated(self.image_rotation.inverse(), points)
        points = torch.cat([points[..., :2] * points[..., 2:], points[..., 2:]], dim=-1)
        rotation, shift = self.cam2ego
        points = _rotated(rotation @ self.intrinsics.inverse(), points) + _expanded(shift)
        points = _rotated(self.bev_aug[:, None], points)
        if self.paste is None:
            return [points]
        received = [points, points.roll(-1, dims=0)][: len(points)]
        return [_rotated(self.paste[:, None], p) for p in received]

    def pooled(
        self, points: Sequence[Tensor], weights: Tensor, foreground: Tensor, context: Tensor
    ) -> Tensor:
        """Computes BEV maps from the result of :meth:`points`, which a static rig needs once."""
        batch, cameras, bins, height, width, _ = points[0].shape
        context = context.view(batch, cameras, -1, height, width)
        maps = []
        for depth, mask in zip(weights, foreground):
            depth = depth.view(batch, cameras, bins, height, width)
            mask = mask.view(batch, cameras, 1, height, width)
            kept = (depth >= self.thresholds[0]) & (mask >= self.thresholds[1])
            bev = self._pool(points[0], depth, kept, context)
            for received in points[1:]:
                rolled = (tensor.roll(-1, dims=0) for tensor in (depth, kept, context))
                bev = bev + self._pool(received, *rolled)
            maps.append(bev)
        return torch.stack(maps)

    def cells(self, points: Tensor) -> Tensor:
        """Returns the cell y * X + x (...) int64 of (..., 3) points, -1 outside of the grid."""
        cells = ((points - self.lower) / self.size).long()
        inside = ((cells >= 0) & (cells < self.count)).all(dim=-1)
        return torch.where(inside, cells[..., 1] * self.grid_size[1] + cells[..., 0], -1)

    def _pool(self, points: Tensor, depth: Tensor, kept: Tensor, context: Tensor) -> Tensor:
        """Returns sums (B, C, Y, X) of depth times context over the points that are kept."""
        batch, channels = context.shape[0], context.shape[2]
        num_cells = self.grid_size[0] * self.grid_size[1]
        cell = self.cells(points).flatten()
        chosen = (kept.flatten() & (cell >= 0)).nonzero()[:, 0]
        rank = chosen // (len(cell) // batch) * num_cells + cell[chosen]
        order = rank.argsort()
        rank, chosen = rank[order], chosen[order]
        changes = torch.ones_like(rank, dtype=torch.bool)
        changes[1:] = rank[1:] != rank[:-1]
        start = torch.where(changes)[0]

        pixel = torch.arange(context.numel() // channels, device=cell.device)
        pixel = pixel.view_as(context[:, :, :1]).expand_as(depth).flatten()[chosen]
        features = context.permute(0, 1, 3, 4, 2).reshape(-1, channels)
        share = depth.flatten()[chosen]
        sums = F.embedding_bag(pixel, features, start, mode="sum", per_sample_weights=share)
        bev = features.new_zeros(batch * num_cells, channels).index_copy(0, rank[start], sums)
        return bev.view(batch, *self.grid_size, channels).permute(0, 3, 1, 2).contiguous()


def _parts(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Splits (..., 4, 4) into (..., 3, 3) and (..., 3) float32."""
    matrices = matrices.float()
    return matrices[..., :3, :3].contiguous(), matrices[..., :3, 3].contiguous()


def _expanded(vectors: Tensor) -> Tensor:
    """Returns (B, N, 3) as (B, N, 1, 1, 1, 3)."""
    return vectors[:, :, None, None, None]


def _rotated(matrices: Tensor, points: Tensor) -> Tensor:
    """Applies matrices (B, N or 1, 3, 3) to points (B, N, D, h, w, 3)."""
    return _expanded(matrices.flatten(-2)).unflatten(-1, (3, 3)).matmul(points[..., None])[..., 0]
