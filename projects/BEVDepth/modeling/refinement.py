"""Depth refinement: convolutions over each image row's plane of depth and width (BEVDepth, 3.4).

Shapes: V views, P splats, B samples, C channels, D depth bins, (h, w) = (H, W) / 16,
(Y, X) BEV grid.
"""

from __future__ import annotations

from torch import Tensor, nn

from fsdbev.layers import splat_cells
from fsdbev.modeling import PART_REGISTRY, ViewTransform
from fsdbev.modeling.blocks import conv3x3, conv_bn_relu, kaiming_init
from fsdbev.modeling.precision import full_precision
from fsdbev.modeling.view_transform import ViewToBEV


@PART_REGISTRY.register()
class DepthRefinement(nn.Module):
    """Lifted features, refined along depth and width, so that a wrong depth can be put right by its
    neighbours' features. Runs in float32.

    Args:
        channels: C.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(channels, channels)
        self.residual = nn.Sequential(
            *conv_bn_relu(channels, channels), *conv_bn_relu(channels, channels)
        )
        self.out = conv3x3(channels, channels, bias=True)
        kaiming_init(self)

    @full_precision
    def forward(self, depth_prob: Tensor, context: Tensor) -> Tensor:
        """(V, D, h, w) and (V, C, h, w) -> (V, C, D, h, w) features of all frustum points."""
        lifted = depth_prob[:, :, None] * context[:, None]  # (V, D, C, h, w)
        rows = lifted.permute(0, 3, 2, 4, 1)  # (V, h, C, w, D)
        x = self.reduce(rows.flatten(0, 1))
        x = self.out(x + self.residual(x))
        return x.unflatten(0, rows.shape[:2]).permute(0, 2, 4, 1, 3)


@full_precision
def splat_volume(view_transform: ViewTransform, volume: Tensor, view_to_bev: ViewToBEV) -> Tensor:
    """Sums the features of all frustum points, which are no longer weight times context, into BEV.

    The pooling operator takes a weight for every depth and one context for all: each depth of a
    view becomes a view of its own, of a single depth with weight one.

    Args:
        volume: (V, C, D, h, w).

    Returns:
        (B, C, Y, X) float32.
    """
    num_bins, *size = (int(n) for n in volume.shape[2:])  # no tensors, as tracing would have
    cells = view_to_bev.cells
    if cells is None:
        cells = view_transform.with_cells(view_to_bev, size).cells
    by_depth = volume.transpose(1, 2).flatten(0, 1)  # (V D, C, h, w)
    view = view_to_bev.view[:, None] * num_bins + view_to_bev.view.new_tensor(range(num_bins))
    return splat_cells(
        by_depth.new_ones(1, len(by_depth), 1, *size),
        by_depth.new_ones(1, len(by_depth), *size),
        by_depth,
        cells.flatten(0, 1)[:, None],
        view=view.flatten(),
        output=view_to_bev.sample.repeat_interleave(num_bins),
        num_outputs=view_to_bev.num_samples,
        grid_size=view_transform.grid.shape,
        depth_threshold=0.0,
        foreground_threshold=0.0,
    )[0]
