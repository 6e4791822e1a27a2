"""What a model believes of a sample, read off the steps of its evaluation.

Shapes: N cameras, M boxes, D depth bins, (h, w) map of the depth network, (Y, X) BEV grid.
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
    """Runs the model on one sample and keeps what it says on the way to its detections.

    Args:
        model: a ``LiftSplatDetector`` in evaluation mode, on any device.
        sample: what the model takes. With ``gt_depth`` and ``gt_foreground`` there is a teacher if
            the model has one; with ``instances`` there are true boxes.
        camera_names: by the sample's order; None numbers them.
        score_threshold: detections must score as much to be kept.
        title: which sample it is.

    Raises:
        ValueError: the model is another one, or in training mode.
    """
    if not isinstance(model, LiftSplatDetector):
        raise ValueError(
            f"beliefs are read off a LiftSplatDetector, but the model is a {type(model).__name__}"
        )
    if model.training:
        raise ValueError("beliefs are of a model in evaluation mode; call model.eval() first")
    taught = "gt_depth" in sample and "gt_foreground" in sample
    labels = model.make_labels([sample]) if taught else [None] * model.num_frames
    scene = model.forward_bev([sample], model.iter_image_features([sample]), labels)

    of_student = [{name: x[:1] for name, x in task.items()} for task in scene.predictions]
    found = model.head.decode(of_student)[0]
    detections = LabelledBoxes(found.pred_boxes_3d, found.pred_classes, found.scores)
    detections = detections.at_least(score_threshold).to("cpu")
    heatmap = torch.cat([task["heatmap"][0] for task in of_student]).float().sigmoid().amax(dim=0)
    bev = contrast(scene.bev_feats).cpu().numpy()
    truth = sample.get("instances")
    if truth is not None:
        truth = LabelledBoxes(truth.gt_boxes_3d, truth.gt_classes)
    return Diagnostics(
        title=title,
        cameras=_camera_diagnostics(model, sample, scene, detections.boxes, camera_names),
        grid=model.grid,
        depth_range=(model.depth_bins.start, model.depth_bins.stop),
        detections=detections,
        truth=truth,
        student_bev=bev[0],
        teacher_bev=bev[1] if len(bev) > 1 else None,
        heatmap=heatmap.cpu().numpy(),
    )


def _camera_diagnostics(
    model: LiftSplatDetector,
    sample: dict,
    scene: DetectorOutput,
    boxes: Boxes3D,
    camera_names: Sequence[str] | None,
) -> list[CameraDiagnostics]:
    depth_prob, foreground = scene.key_frame.depth_prob, scene.key_frame.foreground
    depth_scale = torch.as_tensor(sample["image_aug"])[:, 2, 2].to(depth_prob)
    depth = model.depth_bins.centers.to(depth_prob)[depth_prob.argmax(dim=1)]
    depth = depth / depth_scale[:, None, None]
    attention = attention_of(model, scene, boxes)
    # Where no part of a model tells foreground, all of it is.
    knows_foreground = bool((foreground != 1).any())
    return [
        CameraDiagnostics(
            view=view,
            depth=depth[i].float().cpu().numpy(),
            foreground=foreground[i].float().cpu().numpy() if knows_foreground else None,
            attention=attention[i].float().cpu().numpy(),
        )
        for i, view in enumerate(network_views(sample, camera_names))
    ]


def attention_of(model: LiftSplatDetector, scene: DetectorOutput, boxes: Boxes3D) -> Tensor:
    """How much of each pixel of one sample's key frame is splat under the boxes: (N, h, w), 0..1.

    For pixel (i, j) the sum of ``depth_prob[k, i, j]`` over the bins k whose frustum point takes
    part in pooling (its depth and foreground pass the view transform's thresholds) and lies in a
    cell of :func:`cells_under` the boxes. It is the student's own weight of the pixel's context in
    what the head sees there, before the encoder mixes cells and frames; earlier frames look the
    same way at the same places.

    Args:
        scene: of one sample, as ``model.forward_bev`` gives it.
        boxes: in the BEV frame of the sample.
    """
    frame = scene.key_frame
    view_to_bev = model.view_transform.with_cells(scene.view_to_bev, frame.depth_prob.shape[-2:])
    # The weights of the student, whose pooling knows no labels.
    weights, foreground = model.pooling_weights(frame, None)
    weights = model.view_transform.masked_weights(weights, foreground)[0]
    wanted = cells_under(boxes.to(weights.device), model.grid).flatten()
    lies_under = wanted[view_to_bev.cells.long().clamp(min=0)] & (view_to_bev.cells >= 0)
    return (weights * lies_under).sum(dim=1)


def contrast(bev_feats: Tensor) -> Tensor:
    """(S, C, Y, X) BEV features -> (S, Y, X) how far each cell's vector lies from the usual one,
    the median of all cells and weight sets. Most cells are ground with nothing on it, so what
    stands out is what the network tells from that; lengths of vectors, which a large bias rules,
    would not show it."""
    feats = bev_feats.float()
    usual = feats.transpose(0, 1).flatten(1).median(dim=1).values
    return (feats - usual[:, None, None]).norm(dim=1)


def cells_under(boxes: Boxes3D, grid: BEVGrid) -> Tensor:
    """(Y, X) bool: the cells whose middle lies in a box's footprint, or within half a cell of it
    along the box's sides, so that no object is too small for any."""
    rows, columns = (torch.arange(size, device=boxes.device) + 0.5 for size in grid.shape)
    y, x = torch.meshgrid(
        grid.y_range[0] + grid.cell * rows, grid.x_range[0] + grid.cell * columns, indexing="ij"
    )
    middles = torch.stack([x, y, torch.zeros_like(x)], dim=-1).flatten(0, 1)
    flat = boxes.tensor.float().clone()
    flat[:, 2], flat[:, 5] = 0, 1
    flat[:, 3:5] += grid.cell
    return Boxes3D(flat).contain(middles).any(dim=1).view(grid.shape)
