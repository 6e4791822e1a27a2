"""NMS of many groups in one call: by hand, against the reference, exported, on a GPU."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies as st
from nms_cases import needs_cuda, needs_extension, random_boxes

from fsdbev.layers import (
    EXTENSION_BUILT,
    circle_nms,
    grouped_nms,
    grouped_nms_reference,
    rotated_iou,
    rotated_nms,
)


def reference(boxes, scores, thresholds, is_circle, max_input=None, max_output=None):
    number = boxes.shape[1]
    limits = (number if limit is None else limit for limit in (max_input, max_output))
    return grouped_nms_reference(boxes, scores, thresholds, is_circle, *limits)


EACH = pytest.mark.parametrize("nms", [grouped_nms, reference], ids=["op", "reference"])
ROTATED, CIRCLE = torch.tensor([False]), torch.tensor([True])


def of_one_group(nms, boxes, scores, threshold, is_circle=ROTATED, **limits):
    keep, number = nms(boxes[None], scores[None], torch.tensor([threshold]), is_circle, **limits)
    assert (keep[0, number:] == -1).all()
    return keep[0, :number].tolist()


def random_groups(groups, number, seed=0, dtype=torch.float32):
    """Arguments of ``grouped_nms``: ties, empty slots, boxes without area, huge boxes, rotated and
    circle groups."""
    boxes, scores = random_boxes(groups, number, seed=seed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed + 1)
    draw = partial(torch.rand, groups, number, generator=generator)
    scores = torch.where(draw() < 0.3, (scores * 4).round() / 4, scores)
    scores[draw() < 0.1] = math.nan
    scores[draw() < 0.1] = -math.inf
    scores[draw() < 0.05] = math.inf
    for column, value in ((0, math.nan), (1, math.inf), (2, 0.0), (3, -1.0), (4, math.inf)):
        boxes[..., column][draw() < 0.03] = value
    scale = 2.0**60 if dtype in (torch.float32, torch.float64) else 1.0
    boxes[::3, :, :4] *= scale
    is_circle = torch.rand(groups, generator=generator) < 0.4
    thresholds = torch.rand(groups, generator=generator, dtype=torch.float64)
    thresholds[::3] *= torch.where(is_circle, scale**2, 1.0)[::3]
    return boxes.to(dtype), scores.to(dtype), thresholds, is_circle


@EACH
def test_by_hand(nms):
    """Two groups by IoU, two by distance, of up to three boxes in a row."""
    row = [[0.0, 0, 4, 2, 0], [1.0, 0, 4, 2, 0], [2.0, 0, 4, 2, 0]]  # IoU 3/5 and 1/3
    scores = torch.tensor([[0.9, 0.8, 0.7], [0.7, -math.inf, 0.9]] * 2)
    thresholds = torch.tensor([0.5, 0.2, 1.0, 4.0], dtype=torch.float64)
    is_circle = torch.tensor([False, False, True, True])
    keep, number = nms(torch.tensor([row] * 4), scores, thresholds, is_circle, max_output=4)
    assert keep.tolist() == [[0, 2, -1, -1], [2, -1, -1, -1], [0, 2, -1, -1], [2, -1, -1, -1]]
    assert number.tolist() == [2, 1, 2, 1] and keep.dtype == number.dtype == torch.int64


@EACH
def test_limits_do_not_count_empty_slots(nms):
    boxes = torch.zeros(5, 5)
    boxes[:, 0], boxes[:, 2:4] = torch.arange(5) * 9, 2.0
    scores = torch.tensor([math.nan, 0.1, -math.inf, 0.3, 0.2])
    assert of_one_group(nms, boxes, scores, 0.2) == [3, 4, 1]
    assert of_one_group(nms, boxes, scores, 0.2, max_input=2) == [3, 4]
    assert of_one_group(nms, boxes, scores, 0.2, max_output=1) == [3]
    assert of_one_group(nms, boxes, scores, 0.2, max_input=9, max_output=9) == [3, 4, 1]
    assert of_one_group(nms, boxes, scores * math.nan, 0.2) == []


@pytest.mark.parametrize(
    "nms, number",
    [(grouped_nms, 1500 if EXTENSION_BUILT else 300), (reference, 300)],
    ids=["op", "reference"],
)
@pytest.mark.parametrize("is_circle", [ROTATED, CIRCLE], ids=["rotated", "circle"])
def test_thousands_of_equal_scores(nms, number, is_circle):
    boxes = torch.ones(number, 5)
    scores = torch.full((number,), 0.5)
    assert of_one_group(nms, boxes, scores, 0.5, is_circle) == [0]
    boxes[:, 0] = torch.arange(number) * 2
    assert of_one_group(nms, boxes, scores, 0.5, is_circle) == list(range(number))
    scores[200] = 0.6
    best = [200, *range(82)]
    assert of_one_group(nms, boxes, scores, 0.5, is_circle, max_output=83) == best


@EACH
@pytest.mark.parametrize("threshold", [-1.0, 0.0, math.inf])
def test_degenerate_boxes_and_nan_thresholds_suppress_nothing(nms, threshold):
    boxes = torch.zeros(3, 5)
    boxes[2] = math.nan
    scores = torch.tensor([0.1, 0.3, 0.2])
    assert of_one_group(nms, boxes, scores, threshold) == [1, 2, 0]
    boxes[:] = torch.tensor([math.inf, 0, 1, 1, 0])
    assert of_one_group(nms, boxes, scores, threshold, CIRCLE) == [1, 2, 0]
    for is_circle in (ROTATED, CIRCLE):
        assert of_one_group(nms, torch.ones(3, 5), scores, math.nan, is_circle) == [1, 2, 0]


@EACH
def test_only_centers_matter_to_circles(nms):
    boxes, scores = random_boxes(40)
    expected = of_one_group(nms, boxes, scores, 1.0, CIRCLE)
    boxes[:, 2:] = math.nan
    assert of_one_group(nms, boxes, scores, 1.0, CIRCLE) == expected and 1 < len(expected) < 40


def test_groups_are_independent():
    boxes, scores, thresholds, is_circle = random_groups(7, 40)
    keep, number = grouped_nms(boxes, scores, thresholds, is_circle, 30, 20)
    for g, threshold in enumerate(thresholds.tolist()):
        single = circle_nms if is_circle[g] else rotated_nms
        rows = boxes[g, :, :2] if is_circle[g] else boxes[g]
        expected = single(rows, scores[g], threshold, 30, 20)
        assert torch.equal(keep[g, : number[g]], expected)


@needs_extension
@settings(max_examples=50, deadline=None)
@given(
    groups=st.integers(0, 18),
    number=st.integers(0, 40),
    seed=st.integers(0, 2**20),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    max_input=st.one_of(st.none(), st.integers(0, 50)),
    max_output=st.one_of(st.none(), st.integers(0, 50)),
)
def test_op_equals_reference(groups, number, seed, dtype, max_input, max_output):
    arguments = (*random_groups(groups, number, seed, dtype), max_input, max_output)
    got, expected = grouped_nms(*arguments), reference(*arguments)
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


@EACH
def test_empty(nms):
    for groups, number in ((0, 3), (2, 0), (0, 0)):
        keep, kept = nms(*random_groups(groups, number), max_output=4)
        assert keep.shape == (groups, 4) and kept.shape == (groups,)
        assert (keep == -1).all() and (kept == 0).all()


MALFORMED = [
    ({"boxes": lambda x: x[0]}, r"boxes must be \(G, M, 5\) of x, y, l, w, yaw, got .*3, 5"),
    ({"boxes": lambda x: x[..., :4]}, r"boxes must be \(G, M, 5\) of .*2, 3, 4"),
    ({"boxes": lambda x: x.long()}, "boxes must be floating point, got "),
    ({"scores": lambda x: x[:1]}, r"scores must be .*2, 3.* beside boxes .*got .*1, 3"),
    ({"scores": lambda x: x > 0}, "scores must be floating point, got "),
    ({"thresholds": lambda x: x[:1]}, r"thresholds must be \[2\] beside boxes .*got \[1\]"),
    ({"thresholds": lambda x: x.int()}, "thresholds must be floating point, got "),
    ({"is_circle": lambda x: x[None]}, r"is_circle must be \[2\] beside boxes .*got \[1, 2\]"),
    ({"is_circle": lambda x: x.byte()}, "is_circle must be bool, got "),
    ({"max_input": lambda _: -1}, "max_input must not be negative, got -1"),
    ({"max_output": lambda _: -2}, "max_output must not be negative, got -2"),
]


@EACH
@pytest.mark.parametrize("change, message", MALFORMED)
def test_malformed(nms, change, message):
    names = ("boxes", "scores", "thresholds", "is_circle")
    arguments = dict(zip(names, random_groups(2, 3))) | {"max_input": 3, "max_output": 3}
    arguments |= {name: function(arguments[name]) for name, function in change.items()}
    with pytest.raises(ValueError, match=message):
        nms(**arguments)


class Suppression(torch.nn.Module):
    """IoU and NMS between other operations, as in a model."""

    def forward(self, boxes, scores, thresholds, is_circle):
        keep, _ = grouped_nms(boxes * 1.5, scores.sigmoid(), thresholds, is_circle, None, 9)
        best = boxes.gather(1, keep.clamp(min=0)[..., None].expand(-1, -1, 5))
        return rotated_iou(best, boxes) * (keep >= 0)[..., None]


@needs_extension
def test_a_module_exports_for_any_number_of_boxes():
    arguments, others = random_groups(3, 20), random_groups(3, 31, seed=5)
    number = torch.export.Dim("number", min=2, max=1000)
    shapes = ({1: number}, {1: number}, None, None)
    exported = torch.export.export(Suppression(), arguments, dynamic_shapes=shapes)
    nodes = [node for node in exported.graph.nodes if "fsdbev.grouped_nms" in str(node.target)]
    assert len(nodes) == 1
    for each in (arguments, others):
        expected = Suppression()(*each)
        assert expected.count_nonzero() > 0
        torch.testing.assert_close(exported.module()(*each), expected)


@needs_cuda
@pytest.mark.parametrize("groups, number", [(0, 3), (3, 0), (1, 1), (12, 500), (3, 1000)])
@pytest.mark.parametrize("limits", [(None, None), (1000, 83), (70, 65), (0, 5), (5, 0)])
def test_cuda_equals_the_reference_without_synchronization(groups, number, limits):
    arguments = random_groups(groups, number)
    expected = reference(*arguments, *limits)
    on_device = [tensor.cuda() for tensor in arguments]
    grouped_nms(*on_device, *limits)  # PyTorch's initialization may synchronize
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = grouped_nms(*on_device, *limits)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for tensor, want in zip(got, expected):
        assert torch.equal(tensor.cpu(), want)
