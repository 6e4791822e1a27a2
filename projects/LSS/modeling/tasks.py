"""Tasks of the center head with plain non-maximum suppression."""

from __future__ import annotations

from dataclasses import replace

from fsdbev.modeling import PART_REGISTRY
from fsdbev.modeling.center_head import CENTER_TASKS, CenterTask, RotatedNMS


@PART_REGISTRY.register()
def plain_nms_tasks(*, iou_threshold: float = 0.2) -> tuple[CenterTask, ...]:
    """Builds nuScenes' six tasks with rotated NMS at a single threshold and without Scale-NMS.

    Scale-NMS, introduced later (BEVDet, arXiv:2112.11790, section 3.3), enlarges boxes before NMS.

    Args:
        iou_threshold: boxes with a larger IoU are suppressed.
    """
    return tuple(
        replace(task, nms=RotatedNMS(iou_threshold, dim_scale=(1.0,) * len(task.class_names)))
        for task in CENTER_TASKS
    )
