"""Diagnostics: detections and intermediate outputs of a model for one sample.

Shapes: N cameras, M boxes, S weight sets (student, teacher), C channels, D depth bins, (h, w) map
of the depth network, (Y, X) BEV grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fsdbev.modeling import LiftSplatDetector
from fsdbev.modeling.meta_arch.lift_splat_detector import DetectorOutput
from fsdbev.structures import BEVGrid, Boxes3D, LabelledBoxes
from fsdbev.visualization import CameraDiagnostics, Diagnostics, network_views


@torch.no_grad()
def diagnose(
    model: nn.Module,
    sample: dict,
    *,
    camera_names: Sequence[str] | None = None,
    score_threshold: float = 0.2,
    title: str = "",
) -> Diagnostics:
    """Evaluates a model on one sample and collects its intermediate outputs.

    Args:
        model: a ``LiftSplatDetector`` in evaluation mode, on any device.
        sample: sample dict of the model. With ``gt_depth`` and ``gt_foreground`` a model with a
            teacher also computes the teacher's BEV features; ``instances`` adds ground truth.
        camera_names: names of the cameras in the sample's order; None numbers the cameras.
        score_threshold: least score of the detections to keep.
        title: title of the result.

    Returns:
        The detections and outputs, on the CPU.

    Raises:
        ValueError: the model is not a ``LiftSplatDetector``, or is in training mode.
    """
    if not isinstance(model, LiftSplatDetector):
        raise ValueError(
            f"diagnostics need a LiftSplatDetector, but the model is a {type(model).__name__}"
        )
    if model.training:
        raise ValueError("diagnostics need a model in evaluation mode; call model.eval() first")
    has_labels = "gt_depth" in sample and "gt_foreground" in sample
    labels = model.make_labels([sample]) if has_labels else [None] * model.num_frames
    outputs = model.forward_bev([sample], model.iter_image_features([sample]), labels)

    # A teacher adds its sample to the batch, after the student's. Detections are the student's, as
    # in evaluation.
    predictions = [{name: x[:1] for name, x in task.items()} for task in outputs.predictions]
    instances = model.head.decode(predictions)[0]
    detections = LabelledBoxes(instances.pred_boxes_3d, instances.pred_classes, instances.scores)
    detections = detections.at_least(score_threshold).to("cpu")
    heatmap = torch.cat([task["heatmap"][0] for task in predictions]).float().sigmoid().amax(dim=0)
    bev = contrast(outputs.bev_feats).cpu().numpy()
    truth = sample.get("instances")
    if truth is not None:
        truth = LabelledBoxes(truth.gt_boxes_3d, truth.gt_classes)
    return Diagnostics(
        title=title,
        cameras=_camera_diagnostics(model, sample, outputs, detections.boxes, camera_names),
        grid=model.grid,
        depth_range=(model.depth_bins.start, model.depth_bins.stop),
        class_names=model.classes.names,
        detections=detections,
        truth=truth,
        student_bev=bev[0],
        teacher_bev=bev[1] if len(bev) > 1 else None,
        heatmap=heatmap.cpu().numpy(),
    )


def _camera_diagnostics(
    model: LiftSplatDetector,
    sample: dict,
    outputs: DetectorOutput,
    boxes: Boxes3D,
    camera_names: Sequence[str] | None,
) -> list[CameraDiagnostics]:
    """Computes depth, foreground and attention maps of the key frame's cameras."""
    depth_prob, foreground = outputs.key_frame.depth_prob, outputs.key_frame.foreground
    depth_scale = torch.as_tensor(sample["image_aug"])[:, 2, 2].to(depth_prob)
    depth = model.depth_bins.centers.to(depth_prob)[depth_prob.argmax(dim=1)]
    # The network predicts scaled depth where the image augmentation scales it.
    depth = depth / depth_scale[:, None, None]
    attention = attention_of(model, outputs, boxes)
    # Models without a foreground branch return a foreground probability of 1 everywhere.
    has_foreground = bool((foreground != 1).any())
    return [
        CameraDiagnostics(
            view=view,
            depth=depth[i].float().cpu().numpy(),
            foreground=foreground[i].float().cpu().numpy() if has_foreground else None,
            attention=attention[i].float().cpu().numpy(),
        )
        for i, view in enumerate(network_views(sample, camera_names))
    ]


def attention_of(model: LiftSplatDetector, scene: DetectorOutput, boxes: Boxes3D) -> Tensor:
    """Computes the fraction of each key-frame pixel that is splat under the boxes.

    For pixel (i, j) this is the sum of ``depth_prob[k, i, j]`` over the bins k whose frustum point
    passes the depth and foreground thresholds of the view transform and is in a cell of
    :func:`cells_under` the boxes (docs/model.md, "View transform"). It equals the student's weight
    of the pixel's context in these cells, before the BEV encoder mixes cells and frames.

    Args:
        model: the model that computed the outputs.
        scene: outputs of ``model.forward_bev`` for one sample.
        boxes: boxes in the BEV frame of the sample.

    Returns:
        (N, h, w) fractions from 0 to 1.
    """
    frame = scene.key_frame
    view_to_bev = model.view_transform.with_cells(scene.view_to_bev, frame.depth_prob.shape[-2:])
    # Without labels there is one weight set, the student's.
    weights, foreground = model.pooling_weights(frame, None)
    weights = model.view_transform.masked_weights(weights, foreground)[0]
    under = cells_under(boxes.to(weights.device), model.grid).flatten()
    # Points off the grid have cell -1, which would index the last cell.
    is_under = under[view_to_bev.cells.long().clamp(min=0)] & (view_to_bev.cells >= 0)
    return (weights * is_under).sum(dim=1)


def contrast(bev_feats: Tensor) -> Tensor:
    """Computes the L2 distance of each cell's BEV features from the median features.

    The median is taken over all cells and weight sets. Most cells are empty ground, so the distance
    is large where the features differ from those of empty ground.

    Args:
        bev_feats: (S, C, Y, X) BEV features of one sample.

    Returns:
        (S, Y, X) float32 distances.
    """
    feats = bev_feats.float()
    # Without the difference, a large bias of the last layer would dominate the norms.
    median = feats.transpose(0, 1).flatten(1).median(dim=1).values
    return (feats - median[:, None, None]).norm(dim=1)


def cells_under(boxes: Boxes3D, grid: BEVGrid) -> Tensor:
    """Finds the BEV cells under the footprints of boxes.

    A cell belongs to a box if the cell's centre is inside the footprint enlarged by half a cell on
    each side.

    Args:
        boxes: boxes in the frame of the grid.
        grid: the BEV grid.

    Returns:
        (Y, X) bool mask.
    """
    rows, columns = (torch.arange(size, device=boxes.device) + 0.5 for size in grid.shape)
    y, x = torch.meshgrid(
        grid.y_range[0] + grid.cell * rows, grid.x_range[0] + grid.cell * columns, indexing="ij"
    )
    centers = torch.stack([x, y, torch.zeros_like(x)], dim=-1).flatten(0, 1)
    # Boxes at height 0 contain the centres, whatever their own height. The added half cell on each
    # side gives boxes smaller than a cell at least one cell.
    flat = boxes.tensor.float().clone()
    flat[:, 2], flat[:, 5] = 0, 1
    flat[:, 3:5] += grid.cell
    return Boxes3D(flat).contain(centers).any(dim=1).view(grid.shape)
