"""Network of the center head: maps, initial weights, classes, range of centers, errors."""

import pytest
import torch

from fsdbev.d2.structures import Instances
from fsdbev.modeling.center_head import CenterHead, center_range
from fsdbev.structures import NUSCENES_CLASSES, BEVGrid, Boxes3D, ClassSet

GRID = BEVGrid(x_range=(0.0, 8.0), y_range=(0.0, 6.0), cell=1.0)


def make_head(**overrides):
    options = dict(grid=GRID, classes=NUSCENES_CLASSES) | overrides
    return CenterHead(in_channels=5, shared_channels=4, branch_channels=3, **options)


def one_box_per_class():
    boxes = torch.tensor([[4.0, 3.0, 0.0, 2.0, 1.0, 1.0, 0.3, 1.0, 0.0]]).repeat(10, 1)
    return Instances((6, 8), gt_boxes_3d=Boxes3D(boxes), gt_classes=torch.arange(10))


def test_maps_of_every_task():
    maps = make_head().eval()(torch.randn(2, 5, 6, 8))
    assert len(maps) == len(NUSCENES_CLASSES.groups)
    for group, prediction in zip(NUSCENES_CLASSES.groups, maps, strict=True):
        widths = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "heatmap": len(group.names)}
        assert {k: tuple(v.shape) for k, v in prediction.items()} == {
            name: (2, width, 6, 8) for name, width in widths.items()
        }


def test_every_heatmap_starts_at_one_in_ten():
    head = make_head()
    for branches in head.task_heads:
        assert torch.allclose(branches["heatmap"][-1].bias.sigmoid(), torch.tensor(0.1), atol=1e-3)
        assert not branches["vel"][-1].bias.any()


def test_features_on_another_grid_are_refused():
    with pytest.raises(ValueError, match=r"\(6, 8\) cells.*\(2, 5, 8, 6\)"):
        make_head()(torch.randn(2, 5, 8, 6))


def test_reordered_classes_keep_their_group_and_suppression():
    names = NUSCENES_CLASSES.names[::-1]
    reordered = make_head(classes=ClassSet(**NUSCENES_CLASSES.to_dict() | {"names": names}))
    decoder, original = reordered.decoder, make_head().decoder
    of_group = [[names[i] for i in ids] for ids in reordered.classes.group_ids]
    assert of_group == [list(group.names) for group in NUSCENES_CLASSES.groups]
    assert torch.equal(decoder.dim_scale, original.dim_scale)
    assert decoder.class_ids.tolist() == [9 - i for i in original.class_ids.tolist()]


def test_range_of_centers_follows_the_grid():
    """With a fixed range of +-61.2 m, objects beyond it were targets but never detections."""
    assert center_range(BEVGrid()) == (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)
    grid = BEVGrid(x_range=(0.0, 108.8), y_range=(-32.0, 32.0), z_range=(-4.0, 2.0))
    head = make_head(grid=grid).eval()
    assert head.decoder.center_range == (-10.0, -42.0, -9.0, 118.8, 42.0, 9.0)
    boxes = torch.tensor([[100.4, 3.2, 0.0, 4.0, 2.0, 1.5, 0.3, 1.0, 0.0]])
    instances = Instances((6, 8), gt_boxes_3d=Boxes3D(boxes), gt_classes=torch.tensor([0]))
    targets = head.targets([instances])
    assert targets.task.tolist() == [0]
    maps = [
        {name: torch.zeros_like(values) for name, values in task.items()}
        for task in head(torch.zeros(1, 5, *grid.shape))
    ]
    for task, heatmap in zip(maps, targets.heatmaps, strict=True):
        task["heatmap"] = torch.where(heatmap == 1, 5.0, -10.0)
    (found,) = head.decode(maps)
    assert found.pred_boxes_3d.centers[:, 0].tolist() == pytest.approx([100.0])


def test_a_range_that_cuts_the_grid_is_refused():
    with pytest.raises(ValueError, match=r"center_range \[-61.2.*must contain the grid \[0.0"):
        make_head(
            grid=BEVGrid(x_range=(0.0, 108.8)), center_range=(-61.2, -61.2, -10, 61.2, 61.2, 10)
        )


def test_runs_under_autocast_with_losses_in_float32():
    head = make_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = head(torch.randn(1, 5, 6, 8))
        assert predictions.heatmaps[0].dtype == torch.bfloat16
        losses = head.losses(predictions, head.targets([one_box_per_class()]))
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())
