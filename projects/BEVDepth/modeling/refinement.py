"""Depth refinement of lifted features (BEVDepth, arXiv:2206.10092, "Depth Refinement Module").

Shapes: V views, P (view, sample) pairs, B samples, C channels, D depth bins, (h, w) = (H, W) / 16,
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
    """Convolutions over the (width, depth) plane of each image row of the lifted features.

    They let features move along depth, so that neighbouring pixels can correct a wrong depth. Runs
    in float32.

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
        """Lifts and refines features.

        Args:
            depth_prob: (V, D, h, w) depth probability.
            context: (V, C, h, w) context features.

        Returns:
            (V, C, D, h, w) features of all frustum points.
        """
        lifted = depth_prob[:, :, None] * context[:, None]  # (V, D, C, h, w)
        rows = lifted.permute(0, 3, 2, 4, 1)  # (V, h, C, w, D)
        x = self.reduce(rows.flatten(0, 1))
        x = self.out(x + self.residual(x))
        return x.unflatten(0, rows.shape[:2]).permute(0, 2, 4, 1, 3)


@full_precision
def splat_volume(view_transform: ViewTransform, volume: Tensor, view_to_bev: ViewToBEV) -> Tensor:
    """Sums features of all frustum points into the BEV grid.

    Args:
        view_transform: view transform, for its grid and frustum.
        volume: (V, C, D, h, w) features of the frustum points.
        view_to_bev: receiving samples and transforms of the views.

    Returns:
        (B, C, Y, X) float32 BEV maps.
    """
    # Refined features are not the product of a weight and a context, which the operator expects. So
    # each depth bin of a view becomes a view with a single bin of weight one.
    num_bins, *size = (int(n) for n in volume.shape[2:])  # sizes are tensors during tracing
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
