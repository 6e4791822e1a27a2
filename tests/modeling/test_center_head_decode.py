"""Decoding of the center head: boxes from perfect maps, ranges, thresholds, limits and NMS."""

import math
import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fsdbev.d2.structures import Instances
from fsdbev.layers import EXTENSION_BUILT
from fsdbev.layers._extension import KERNEL_DEVICES
from fsdbev.modeling.center_head import CenterHead
from fsdbev.modeling.center_head.decode import NMS_OUTPUT, top_candidates
from fsdbev.modeling.center_head.targets import REGRESSION
from fsdbev.structures import NUSCENES_CLASSES, BEVGrid, Boxes3D, ClassSet

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]
CLASS_NAMES = NUSCENES_CLASSES.names
GRID = BEVGrid(x_range=(-40.0, 40.0), y_range=(-30.0, 30.0), cell=1.0)
EMPTY_LOGIT = -10.0


def make_head(grid=GRID, classes=NUSCENES_CLASSES, **overrides):
    options = dict(in_channels=2, shared_channels=2, branch_channels=2) | overrides
    return CenterHead(grid=grid, classes=classes, **options)


def empty_maps(head, batch=1):
    """Returns the maps of a head without any box."""
    maps = []
    device = next(head.parameters()).device
    for group in head.classes.groups:
        widths = {**REGRESSION, "heatmap": len(group.names)}
        shapes = {k: (batch, w, *head.grid.shape) for k, w in widths.items()}
        prediction = {k: torch.zeros(shape, device=device) for k, shape in shapes.items()}
        prediction["heatmap"] += EMPTY_LOGIT
        maps.append(prediction)
    return maps


def perfect_maps(head, instances):
    """Returns the maps of a head that predicts its own targets exactly."""
    maps = empty_maps(head, len(instances))
    targets = head.targets(instances)
    for task, (prediction, heatmap) in enumerate(zip(maps, targets.heatmaps, strict=True)):
        prediction["heatmap"] = torch.where(heatmap == 1, 5.0, EMPTY_LOGIT)
        chosen = targets.task == task
        columns = targets.regression[chosen].split(list(REGRESSION.values()), dim=1)
        for branch, values in zip(REGRESSION, columns, strict=True):
            prediction[branch].flatten(2)[targets.sample[chosen], :, targets.cell[chosen]] = values
    return maps


def random_instances(seed):
    """Returns two boxes of every class, far enough apart for NMS to keep all of them."""
    generator = torch.Generator().manual_seed(seed)
    count = 2 * len(CLASS_NAMES)
    boxes = torch.rand(count, 9, generator=generator) * 2 - 1
    slots = torch.randperm(35, generator=generator)[:count]
    boxes[:, 0] = (slots % 7 - 3) * 10 + boxes[:, 0]
    boxes[:, 1] = (slots // 7 - 2) * 10 + boxes[:, 1]
    boxes[:, 3:6] = 1.5 + 0.5 * boxes[:, 3:6]
    boxes[:, 6] *= math.pi
    boxes[:, 7:9] *= 10
    classes = torch.arange(count) % len(CLASS_NAMES)
    return Instances((1, 1), gt_boxes_3d=Boxes3D(boxes), gt_classes=classes)


@pytest.mark.parametrize("device", DEVICES)
def test_perfect_maps_give_the_boxes_back(device):
    """The targets are computed from labels on the CPU, as the loader returns them."""
    head = make_head().to(device)
    truth = [random_instances(0), random_instances(1)]
    for sample, found in zip(truth, head.decode(perfect_maps(head, truth)), strict=True):
        found = found.to("cpu")
        assert len(found) == len(sample)
        assert (found.scores > 0.99).all() and found.pred_classes.dtype == torch.int64
        distance = torch.cdist(found.pred_boxes_3d.centers, sample.gt_boxes_3d.centers)
        match = distance.argmin(dim=1)
        assert sorted(match.tolist()) == list(range(len(sample)))
        assert torch.equal(found.pred_classes, sample.gt_classes[match])
        assert torch.allclose(
            found.pred_boxes_3d.tensor, sample.gt_boxes_3d.tensor[match], atol=1e-4
        )


def test_no_boxes():
    head = make_head()
    found, _ = head.decode(empty_maps(head, batch=2))
    assert head.decode(empty_maps(head, batch=0)) == []
    assert len(found) == 0 and found.pred_boxes_3d.tensor.shape == (0, 9)
    assert found.pred_classes.dtype == torch.int64


@pytest.mark.parametrize("log_dim", [500.0, -500.0])
def test_sizes_are_finite_and_positive_whatever_is_predicted(log_dim):
    head = make_head()
    maps = empty_maps(head)
    maps[0]["heatmap"][0, 0, 20, 30] = 5.0
    maps[0]["dim"][:] = log_dim
    dims = head.decode(maps)[0].pred_boxes_3d.dims
    assert len(dims) == 1
    assert dims.isfinite().all() and (dims > 0).all()


def test_score_threshold_is_exclusive_and_center_range_is_not():
    head = make_head(score_threshold=0.5, center_range=(-40.0, -30.0, -10.0, 40.0, 30.0, 10.0))
    maps = empty_maps(head)
    for column, score, height in (
        (30, 0.01, 0.0),
        (35, 0.0, 0.0),  # a probability of exactly 1/2
        (50, 3.0, 10.5),
        (79, 3.0, 10.0),
        (78, 3.0, 0.0),
    ):
        maps[3]["heatmap"][0, 0, 30, column] = score  # x = column - 40
        maps[3]["height"][0, 0, 30, column] = height
    maps[3]["reg"][0, 0, 30, 79] = 1.0  # x = 40, the bound itself
    maps[3]["reg"][0, 0, 30, 78] = 2.01
    (found,) = head.decode(maps)
    assert sorted(found.pred_boxes_3d.tensor[:, 0].tolist()) == [-10.0, 40.0]


def random_prediction(num_classes, grid=GRID, batch=2):
    prediction = {k: torch.randn(batch, w, *grid.shape) for k, w in REGRESSION.items()}
    return {**prediction, "heatmap": torch.randn(batch, num_classes, *grid.shape)}


def test_candidates_are_the_best_over_classes():
    """The public release takes the best of each class, then the best of these: same result."""
    torch.manual_seed(0)
    predictions = [random_prediction(2), random_prediction(3)]
    found = top_candidates(predictions, grid=GRID, max_candidates=50)
    assert found.boxes.shape == (2, 2, 50, 9)
    for task, classes in enumerate([{0, 1}, {2, 3, 4}]):
        per_class = predictions[task]["heatmap"].sigmoid().flatten(2).topk(50).values
        assert torch.equal(found.scores[:, task], per_class.flatten(1).topk(50).values)
        assert set(found.classes[:, task].unique().tolist()) == classes


def test_more_candidates_than_cells():
    """The slots without a cell have the score -inf."""
    grid = BEVGrid(x_range=(0.0, 2.0), y_range=(0.0, 3.0), cell=1.0)
    predictions = [random_prediction(2, grid), random_prediction(1, grid)]
    found = top_candidates(predictions, grid=grid, max_candidates=500)
    assert found.boxes.shape == (2, 2, 500, 9)
    assert (found.scores > -math.inf).sum(dim=-1).tolist() == [[12, 6]] * 2


def test_at_most_83_boxes_a_task():
    head = make_head()
    maps = empty_maps(head)
    for task in (0, 3):
        maps[task]["heatmap"] += torch.linspace(8, 14, GRID.shape[0] * GRID.shape[1]).reshape(
            GRID.shape
        )
        maps[task]["dim"] -= 3.0  # small boxes do not overlap
        maps[task]["reg"][:, 0] = 0.0
    maps[3]["heatmap"][..., ::2] = EMPTY_LOGIT  # barriers two metres apart
    (found,) = head.decode(maps)
    assert (found.pred_classes == CLASS_NAMES.index("car")).sum() == NMS_OUTPUT
    assert (found.pred_classes == CLASS_NAMES.index("barrier")).sum() == NMS_OUTPUT


def found_along_x(nms, positions, scores, classes):
    """Decodes a row of boxes of 4 m by 2 m along x; returns the x of the boxes that NMS keeps.

    Args:
        nms: arguments of the only group, of the classes "car" and "bus".
        positions: x of each box, metres.
        scores: logit of each box.
        classes: 0 ("car") or 1 ("bus") for each box.
    """
    names = ("car", "bus")
    head = make_head(classes=ClassSet(names=names, groups=[{"names": names, **nms}]))
    maps = empty_maps(head)
    maps[0]["dim"][:, :2] = torch.tensor([4.0, 2.0]).log()[:, None, None]
    maps[0]["rot"][:, 1] = 1.0  # cosine
    for x, score, class_id in zip(positions, scores, classes, strict=True):
        maps[0]["heatmap"][0, class_id, 30, x + 40] = score
    return head.decode(maps)[0].pred_boxes_3d.centers[:, 0].tolist()


def test_rotated_nms_scales_by_class():
    """Two boxes of 4 m, 3 m apart: IoU 1/7, 0 at half the length, more at twice the length."""

    def found(threshold, scale):
        return found_along_x(
            dict(iou_threshold=threshold, dim_scale=(scale, 1.0)), [0, 3], [0.5, 0.9], [0, 0]
        )

    assert found(0.1, 1.0) == [3]
    assert found(0.1, 0.5) == [3, 0]
    assert found(0.2, 1.0) == [3, 0]
    assert found(0.2, 2.0) == [3]
    of_each_class = dict(iou_threshold=0.1, dim_scale=(1.0, 0.25))
    assert found_along_x(of_each_class, [0, 3], [0.5, 0.9], [1, 1]) == [3, 0]
    assert found_along_x(of_each_class, [0, 3], [0.5, 0.9], [0, 0]) == [3]


def test_nms_goes_across_the_classes_of_a_task():
    head = make_head()
    maps = empty_maps(head)
    maps[1]["heatmap"][0, 0, 10, 10], maps[1]["heatmap"][0, 1, 10, 10] = 1.0, 2.0
    maps[2]["heatmap"][0, 1, 10, 10] = 1.5  # NMS does not compare two tasks
    (found,) = head.decode(maps)
    names = [CLASS_NAMES[c] for c in found.pred_classes]
    assert names == ["construction_vehicle", "trailer"]


def test_circle_nms_reaches_to_its_distance():
    row = ([0, 1, 3], [0.9, 0.8, 0.7], [0, 1, 0])
    assert found_along_x(dict(center_distance=1.0), *row) == [0, 3]
    assert found_along_x(dict(center_distance=0.9), *row) == [0, 1, 3]


def dense_maps(head, batch):
    """Returns maps with many boxes, another number of them in every sample and task."""
    torch.manual_seed(0)
    maps = [random_prediction(len(group.names), batch=batch) for group in head.classes.groups]
    for i, prediction in enumerate(maps):
        prediction["heatmap"] -= 2.0 + torch.arange(batch)[:, None, None, None] + i / 4
    device = next(head.parameters()).device
    return [{name: value.to(device) for name, value in each.items()} for each in maps]


def test_samples_and_tasks_are_independent():
    head = make_head(score_threshold=0.3)
    maps = dense_maps(head, batch=3)
    batch, empty = head.decode(maps), empty_maps(head, 3)
    by_task = [
        head.decode([each if i == t else empty[i] for i, each in enumerate(maps)])
        for t in range(len(maps))
    ]
    for sample, found in enumerate(batch):
        (single,) = head.decode(
            [{name: value[[sample]] for name, value in each.items()} for each in maps]
        )
        assert torch.equal(found.pred_boxes_3d.tensor, single.pred_boxes_3d.tensor)
        assert torch.equal(found.scores, single.scores)
        assert torch.equal(found.pred_classes, single.pred_classes)
        scores = torch.cat([results[sample].scores for results in by_task])
        assert torch.equal(found.scores, scores)
    counts = [len(found) for found in batch]
    assert len(set(counts)) == 3 and min(counts) > 0


class RecordOperators(TorchDispatchMode):
    """Records the names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


def test_one_nms_and_nothing_that_waits_for_a_device():
    """Only the number of boxes is read from the device, and no constant is copied to it."""
    head = make_head()
    with RecordOperators() as record:
        found = head.decode(dense_maps(head, batch=2))
    names = record.names[record.names.index("aten::sigmoid") :]
    assert min(map(len, found)) > 0
    assert not EXTENSION_BUILT or names.count("fsdbev::grouped_nms") == 1
    waits = {"aten::nonzero", "aten::masked_select", "aten::_local_scalar_dense"}
    waits |= {"aten::lift_fresh", "aten::item", "aten::equal", "aten::is_nonzero"}
    assert not (waits & set(names) if EXTENSION_BUILT else ())


@NEEDS_CUDA
@pytest.mark.skipif("cuda" not in KERNEL_DEVICES, reason="needs CUDA kernels")
def test_waits_once_for_a_cuda_device():
    head = make_head().cuda()
    maps = dense_maps(head, batch=2)
    expected = make_head().decode([{k: v.cpu() for k, v in each.items()} for each in maps])
    found = head.decode(maps)  # the first call also waits for what PyTorch sets up
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            head.decode(maps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchronizing" in str(each.message) for each in caught) <= 1
    for one, other in zip(found, expected, strict=True):
        # The rounding of another device moves a score across the threshold now and then.
        assert len(one) == pytest.approx(len(other), abs=2)


def test_predictions_must_stack_the_targets():
    head = make_head()
    targets = head.targets([random_instances(0), random_instances(1)])
    with pytest.raises(ValueError, match="3 samples are not a multiple of the targets' 2"):
        head.losses(empty_maps(head, batch=3), targets)
