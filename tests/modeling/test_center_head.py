"""Network of the center head: maps, initial weights, tasks, errors."""

import pytest
import torch

from fsdbev.d2.structures import Instances
from fsdbev.modeling.center_head import CENTER_TASKS, CenterHead, CenterTask, CircleNMS, RotatedNMS
from fsdbev.structures import CLASS_NAMES, TASKS, BEVGrid, Boxes3D

GRID = BEVGrid(x_range=(0.0, 8.0), y_range=(0.0, 6.0), cell=1.0)


def make_head(**overrides):
    return CenterHead(in_channels=5, shared_channels=4, branch_channels=3, grid=GRID, **overrides)


def one_box_per_class():
    boxes = torch.tensor([[4.0, 3.0, 0.0, 2.0, 1.0, 1.0, 0.3, 1.0, 0.0]]).repeat(10, 1)
    return Instances((6, 8), gt_boxes_3d=Boxes3D(boxes), gt_classes=torch.arange(10))


def test_maps_of_every_task():
    maps = make_head()(torch.randn(2, 5, 6, 8))
    assert len(maps) == len(TASKS)
    for task, prediction in zip(TASKS, maps, strict=True):
        widths = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "heatmap": len(task)}
        assert {k: tuple(v.shape) for k, v in prediction.items()} == {
            name: (2, width, 6, 8) for name, width in widths.items()
        }


def test_every_heatmap_starts_at_one_in_ten():
    head = make_head()
    for branches in head.task_heads:
        assert torch.allclose(branches["heatmap"][-1].bias.sigmoid(), torch.tensor(0.1), atol=1e-3)
        assert not branches["vel"][-1].bias.any()


def test_tasks_state_every_class_once_and_the_published_nms():
    assert tuple(task.class_names for task in CENTER_TASKS) == TASKS
    nms = {name: task.nms for task in CENTER_TASKS for name in task.class_names}
    assert nms["barrier"] == CircleNMS(squared_distance=1.0)
    assert nms["pedestrian"] == RotatedNMS(0.5, dim_scale=(4.5, 9.0))
    assert nms["trailer"] == RotatedNMS(0.2, dim_scale=(0.4, 0.55))


def test_features_on_another_grid_are_refused():
    with pytest.raises(ValueError, match=r"\(6, 8\) cells.*\(2, 5, 8, 6\)"):
        make_head()(torch.randn(2, 5, 8, 6))


def test_every_class_has_one_task_and_one_dim_scale():
    tasks = (CenterTask(("car",), CircleNMS(1.0)), CenterTask(("car", "bus"), CircleNMS(1.0)))
    for wrong in (
        {"class_names": CLASS_NAMES[:-1]},
        {"class_names": (*CLASS_NAMES, "tram")},
        {"tasks": tasks, "class_names": ("car", "bus")},
    ):
        with pytest.raises(ValueError, match="exactly one task"):
            make_head(**wrong)
    with pytest.raises(ValueError, match="one dim_scale per class"):
        CenterTask(("car", "bus"), RotatedNMS(0.2, dim_scale=(1.0,)))


def test_runs_under_autocast_with_losses_in_float32():
    head = make_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = head(torch.randn(1, 5, 6, 8))
        assert predictions[0]["heatmap"].dtype == torch.bfloat16
        losses = head.losses(predictions, head.targets([one_box_per_class()]))
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())
