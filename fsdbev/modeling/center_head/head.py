"""CenterHead, a center-based detection head on the BEV grid (CenterPoint, arXiv:2006.11275).

Shapes: B batch, C channels, Y, X BEV cells, M boxes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fsdbev.d2.structures import Instances
from fsdbev.modeling.blocks import HEATMAP_PRIOR_BIAS, conv3x3, conv_bn_relu, kaiming_init
from fsdbev.modeling.registry import PART_REGISTRY
from fsdbev.structures import BEVGrid, Boxes3D, ClassSet

from .decode import BoxDecoder, Candidates
from .losses import center_losses, heatmaps_of
from .regression import TrainingPredictions, can_fold, fold_regression
from .targets import REGRESSION, CenterTargets, center_targets


@PART_REGISTRY.register()
class CenterHead(nn.Module):
    """Predicts center heatmaps and box parameters per cell, with one set of branches per task.

    See docs/model.md, "Head, targets, decoding".

    Args:
        in_channels: channels of the BEV features.
        grid: the BEV grid; the head predicts on its cells.
        classes: the classes that ``gt_classes`` and ``pred_classes`` index; each of their groups is
            a task with branches and NMS of its own.
        shared_channels: channels of the convolution shared by the tasks.
        branch_channels: hidden channels of each branch.
        box_weight: weight of the box losses.
        velocity_weight: additional weight of the velocity loss.
        min_radius: smallest radius of a target Gaussian, cells.
        min_overlap: overlap that determines the radius, see :func:`.targets.gaussian_radius`.
        max_boxes: maximum number of target boxes per task and sample.
        max_candidates: number of cells per task and sample that become boxes.
        score_threshold: boxes must have a higher score.
        center_range: lower x, y, z and upper x, y, z of predicted centers, metres; by default
            :func:`center_range` of the grid.

    Raises:
        ValueError: ``center_range`` does not contain the grid.
    """

    #: Layers whose weights depend on the classes.
    class_layers = ("task_heads",)

    def __init__(
        self,
        *,
        in_channels: int,
        grid: BEVGrid,
        classes: ClassSet,
        shared_channels: int = 64,
        branch_channels: int = 64,
        box_weight: float = 0.25,
        velocity_weight: float = 1.0,
        min_radius: int = 2,
        min_overlap: float = 0.1,
        max_boxes: int = 500,
        max_candidates: int = 500,
        score_threshold: float = 0.1,
        center_range: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.classes = classes
        self.box_weight, self.velocity_weight = box_weight, velocity_weight
        self.min_radius, self.min_overlap, self.max_boxes = min_radius, min_overlap, max_boxes
        self.decoder = BoxDecoder(
            classes=classes,
            grid=grid,
            max_candidates=max_candidates,
            score_threshold=score_threshold,
            center_range=_checked_range(center_range, grid),
        )

        self.shared_conv = _named_conv_bn_relu(in_channels, shared_channels)
        self.task_heads = nn.ModuleList(
            _task_head(shared_channels, branch_channels, len(group.names))
            for group in classes.groups
        )
        self._init_weights()

    def _init_weights(self) -> None:
        kaiming_init(self)
        for branches in self.task_heads:
            for branch in branches.values():
                # By fan-in: with one or two output channels, fan-out initialisation makes logits
                # beyond +-10. Their losses in the hundreds make ReLUs die in the first iterations.
                nn.init.kaiming_normal_(branch[-1].weight, nonlinearity="linear")
            nn.init.constant_(branches["heatmap"][-1].bias, HEATMAP_PRIOR_BIAS)

    def forward(self, bev_feats: Tensor) -> list[dict[str, Tensor]] | TrainingPredictions:
        """Predicts the maps of each task; in training mode only those of the heatmaps.

        In training mode :meth:`losses` evaluates the other branches at the center cells of the
        boxes, see :mod:`.regression`. A head with replaced layers or hooks in these branches
        computes all maps in both modes.

        Args:
            bev_feats: (B, C, Y, X) BEV features.

        Returns:
            Maps (B, channels, Y, X) of each task by name of the branch: ``reg`` 2 (offset in the
            cell, x and y, cells), ``height`` 1 (z, metres), ``dim`` 3 (l, w, h, log metres),
            ``rot`` 2 (sine, cosine of yaw), ``vel`` 2 (m/s) and ``heatmap`` (a logit per class). In
            training mode ``TrainingPredictions``.

        Raises:
            ValueError: ``bev_feats`` does not have the size of the grid.
        """
        if bev_feats.shape[-2:] != self.grid.shape:
            raise ValueError(
                f"bev_feats must be on the head's grid of {self.grid.shape} cells (Y, X), "
                f"got {tuple(bev_feats.shape)}"
            )
        shared = self.shared_conv(bev_feats)
        if self.training and can_fold(self.task_heads):
            heatmaps = tuple(branches["heatmap"](shared) for branches in self.task_heads)
            return TrainingPredictions(heatmaps, fold_regression(shared, self.task_heads))
        return [
            {name: branch(shared) for name, branch in branches.items()}
            for branches in self.task_heads
        ]

    def targets(self, instances: Sequence[Instances]) -> CenterTargets:
        """Computes the targets of all tasks from ``gt_boxes_3d`` and ``gt_classes``.

        Args:
            instances: one per sample.
        """
        return center_targets(
            instances,
            tasks=self.classes.group_ids,
            grid=self.grid,
            min_radius=self.min_radius,
            min_overlap=self.min_overlap,
            max_boxes=self.max_boxes,
            device=self.shared_conv.conv.weight.device,
            # Half-precision weights have float32 targets.
            dtype=torch.promote_types(self.shared_conv.conv.weight.dtype, torch.float32),
        )

    def losses(
        self,
        predictions: Sequence[dict[str, Tensor]] | TrainingPredictions,
        targets: CenterTargets,
    ) -> dict[str, Tensor]:
        """Computes weighted losses ``task{i}.loss_{heatmap,xy,z,dim,yaw,vel}``.

        Args:
            predictions: result of :meth:`forward` for B samples, or for a multiple of B: student
                and teacher are stacked along the batch and share the targets.
            targets: of the B samples, from :meth:`targets`.

        Raises:
            ValueError: the number of predicted samples is not a multiple of B.
        """
        stacked, batch = len(heatmaps_of(predictions)[0]), len(targets.heatmaps[0])
        if stacked % batch:
            raise ValueError(
                f"predictions of {stacked} samples are not a multiple of the targets' {batch}"
            )
        return center_losses(
            predictions,
            targets,
            box_weight=self.box_weight,
            velocity_weight=self.velocity_weight,
        )

    @torch.no_grad()
    def decode(self, predictions: Sequence[dict[str, Tensor]]) -> list[Instances]:
        """Decodes the detections of each sample.

        Args:
            predictions: maps of each task, see :meth:`forward`.

        Returns:
            Instances with ``pred_boxes_3d`` (Boxes3D in the frame of the grid), ``scores`` (M,) and
            ``pred_classes`` (M,) int64, by task and by descending score within a task. The head
            knows no images: ``image_size`` is (Y, X), and the model replaces it.
        """
        return [self._to_instances(found) for found in self.decoder(predictions)]

    def _to_instances(self, found: Candidates) -> Instances:
        # Instances require an image size; for boxes on the BEV grid it is the grid's shape.
        result = Instances(self.grid.shape)
        result.pred_boxes_3d = Boxes3D(found.boxes)
        result.scores = found.scores
        result.pred_classes = found.classes
        return result


def center_range(
    grid: BEVGrid, *, margin: float = 10.0, below: float = 5.0, above: float = 7.0
) -> tuple[float, ...]:
    """Returns the range of predicted centers for a grid.

    With nuScenes' grid this is the release's range, +-61.2 m in x and y and +-10 m in z.

    Args:
        grid: the BEV grid of the head.
        margin: distance beyond the grid in x and y, metres.
        below, above: distance below and above the grid's z range, metres.

    Returns:
        Lower x, y, z and upper x, y, z, metres.
    """
    (x0, x1), (y0, y1), (z0, z1) = grid.x_range, grid.y_range, grid.z_range
    return (x0 - margin, y0 - margin, z0 - below, x1 + margin, y1 + margin, z1 + above)


def _checked_range(given: Sequence[float] | None, grid: BEVGrid) -> tuple[float, ...]:
    if given is None:
        return center_range(grid)
    given, needed = tuple(map(float, given)), center_range(grid, margin=0, below=0, above=0)
    # Negated upper bounds: then all six must be at most those of the grid.
    signs = (1, 1, 1, -1, -1, -1)
    if len(given) != 6 or any(s * g > s * n for s, g, n in zip(signs, given, needed)):
        raise ValueError(
            f"center_range {list(given)} must contain the grid {list(needed)} (lower x, y, z, "
            "upper x, y, z): boxes that the head is trained on would be dropped. Leave it out to "
            "derive it from the grid"
        )
    return given


def _named_conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """Builds :func:`conv_bn_relu` with named layers, as in the public release's weights."""
    conv, bn, relu = conv_bn_relu(in_channels, out_channels)
    return nn.Sequential(OrderedDict(conv=conv, bn=bn, relu=relu))


def _task_head(in_channels: int, hidden_channels: int, num_classes: int) -> nn.ModuleDict:
    """Builds the branches of a task, each (B, in_channels, Y, X) -> (B, channels, Y, X)."""
    branches = nn.ModuleDict()
    for name, out_channels in {**REGRESSION, "heatmap": num_classes}.items():
        output = conv3x3(hidden_channels, out_channels, bias=True)
        branches[name] = nn.Sequential(_named_conv_bn_relu(in_channels, hidden_channels), output)
    return branches
