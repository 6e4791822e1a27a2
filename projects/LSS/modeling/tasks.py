"""The center head's tasks with plain non-maximum suppression."""

from __future__ import annotations

from dataclasses import replace

from fsdbev.modeling import PART_REGISTRY
from fsdbev.modeling.center_head import CENTER_TASKS, CenterTask, RotatedNMS


@PART_REGISTRY.register()
def plain_nms_tasks(*, iou_threshold: float = 0.2) -> tuple[CenterTask, ...]:
    """nuScenes' six tasks; boxes are suppressed as large as they are, all at one IoU of the rotated
    rectangles: what there was before Scale-NMS (BEVDet, section 3.3)."""
    return tuple(
        replace(task, nms=RotatedNMS(iou_threshold, dim_scale=(1.0,) * len(task.class_names)))
        for task in CENTER_TASKS
    )
