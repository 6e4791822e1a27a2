"""Rotated IoU, rotated and circle NMS of one group: by hand, against shapely and the release."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nms_cases import needs_extension, random_boxes
from oracles.boxes import shapely_iou, shapely_nms

from fsdbev.layers import circle_nms, rotated_iou, rotated_iou_reference, rotated_nms

PARITY = Path(__file__).parents[1] / "parity" / "components.npz"
IOUS = pytest.mark.parametrize("iou", [rotated_iou, rotated_iou_reference], ids=["op", "reference"])


@IOUS
def test_iou_by_hand(iou):
    unit = [0.0, 0, 2, 2, 0]
    others = torch.tensor(
        [
            unit,
            [1, 0, 2, 2, 0],  # half of each: 2 / 6
            [2, 0, 2, 2, 0],  # touches along an edge
            [0, 0, 2, 2, math.pi / 2],  # the same square
            [0, 0, 2, 2, math.pi / 4],  # a regular octagon is common
            [0, 0, 1, 1, 0.3],  # inside
            [0, 0, 4, 1, 0],  # crosses: 2 / 6
            [9, 9, 2, 2, 0],
        ],
        dtype=torch.float64,
    )
    octagon = 8 * (math.sqrt(2) - 1)
    expected = [1, 1 / 3, 0, 1, octagon / (8 - octagon), 0.25, 1 / 3, 0]
    got = iou(torch.tensor([unit], dtype=torch.float64), others)
    torch.testing.assert_close(got, torch.tensor([expected], dtype=torch.float64))


def pairs_of_every_kind(number):
    """Returns two (number, 5) float64 boxes, a sixth of each kind: touching along a side, touching
    with a corner, nested, equal up to half turns, crossing, random."""
    part = number // 6
    a, _ = random_boxes(number, seed=1, dtype=torch.float64)
    b, _ = random_boxes(number, seed=2, dtype=torch.float64)
    touching, corner, nested, equal, crossing = (slice(i * part, (i + 1) * part) for i in range(5))
    ahead = torch.stack([a[:, 4].cos(), a[:, 4].sin()], dim=1)

    b[touching, 4] = a[touching, 4]
    gap = (a[touching, 2:3] + b[touching, 2:3]) / 2
    b[touching, :2] = a[touching, :2] + gap * ahead[touching]

    diagonal = b[corner, 2:4].norm(dim=1, keepdim=True)
    b[corner, 4] = a[corner, 4] + torch.atan2(b[corner, 3], b[corner, 2])
    b[corner, :2] = a[corner, :2] + (a[corner, 2:3] + diagonal) / 2 * ahead[corner]

    b[nested, :2] = a[nested, :2]
    inner = a[nested, 2:4].amin(dim=1) / b[nested, 2:4].norm(dim=1)
    b[nested, 2:4] *= inner[:, None]

    b[equal] = a[equal]
    b[equal, 4] += torch.arange(part, dtype=torch.float64) % 5 * math.pi

    b[crossing, :2], b[crossing, 4] = a[crossing, :2], a[crossing, 4] + math.pi / 2
    for boxes in (a, b):
        boxes[crossing, 2] += boxes[crossing, 3] + 3  # longer than the other is wide
    return a, b


@IOUS
def test_iou_equals_shapely_on_pairs_of_every_kind(iou):
    a, b = pairs_of_every_kind(3_000)
    got = iou(a[:, None], b[:, None])[:, 0, 0]
    torch.testing.assert_close(got, shapely_iou(a, b), rtol=0, atol=1e-8)
    touching, corner, nested, equal, crossing, random = got.view(6, -1)
    assert touching.max() < 1e-9 and corner.max() < 1e-9 and equal.min() > 1 - 1e-9
    assert nested.min() > 0 and crossing.min() > 0 and 0.2 < (random > 0).double().mean() < 0.8
    assert (got <= 1).all()
    disjoint = shapely_iou(a, b).view(6, -1)[5] == 0
    assert (random[disjoint] == 0).all()
    single = iou(a[:, None].float(), b[:, None].float())[:, 0, 0]
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, shapely_iou(a.float(), b.float()).float(), rtol=0, atol=1e-5)


@IOUS
def test_iou_in_groups(iou):
    a, b = random_boxes(2, 3, 4)[0], random_boxes(2, 3, 6, seed=1)[0]
    got = iou(a, b)
    assert got.shape == (2, 3, 4, 6) and (got > 0).any()
    for i, j in np.ndindex(2, 3):
        assert torch.equal(got[i, j], iou(a[i, j], b[i, j]))
    torch.testing.assert_close(iou(b, a), got.mT)


@IOUS
def test_iou_of_degenerate_boxes_is_zero(iou):
    boxes = torch.tensor(
        [
            [0, 0, 2, 2, 0],
            [0, 0, 0, 2, 0],
            [0, 0, -2, 2, 0],
            [0, 0, -2, -2, 0],
            [math.nan, 0, 2, 2, 0],
            [0, math.inf, 2, 2, 0],
            [0, 0, math.inf, 2, 0],
            [0, 0, 2, 2, math.nan],
            [0, 0, 1e-200, 1e-200, 0],  # an area of 0 and of infinity in float64
            [0, 0, 1e200, 1e200, 0],
        ],
        dtype=torch.float64,
    )
    expected = torch.zeros(10, 10, dtype=torch.float64)
    expected[0, 0] = 1
    assert torch.equal(iou(boxes, boxes), expected)


@IOUS
def test_iou_of_huge_boxes(iou):
    boxes, _ = random_boxes(30)
    far = boxes.clone()
    far[:, :4] *= 2.0**60
    torch.testing.assert_close(iou(far, far), iou(boxes, boxes))
    assert iou(far, boxes).max() == 0
    far[:, :2] *= 2.0**60
    torch.testing.assert_close(iou(far, far), torch.eye(30))


def test_nms_by_hand():
    # b overlaps a by 1/3, c overlaps b by 1/3 but not a, d is far, e equals a.
    a, b, c, d = [0.0, 0, 2, 2, 0], [1.0, 0, 2, 2, 0], [2.0, 0, 2, 2, 0], [9.0, 0, 2, 2, 0]
    boxes = torch.tensor([d, c, b, a, a])
    scores = torch.tensor([0.1, 0.7, 0.8, 0.9, 0.9])
    assert rotated_nms(boxes, scores, 0.3).tolist() == [3, 1, 0]
    assert rotated_nms(boxes, scores, 0.34).tolist() == [3, 2, 1, 0]
    assert rotated_nms(boxes, scores, 0.34, max_output=2).tolist() == [3, 2]
    assert rotated_nms(boxes, scores, 0.34, max_input=3).tolist() == [3, 2]  # the best: a, a, b
    assert rotated_nms(boxes, scores, 0.3, max_input=0).tolist() == []
    assert rotated_nms(boxes, scores, 0.3, max_output=0).tolist() == []
    assert rotated_nms(boxes, scores, 1.0).tolist() == [3, 4, 2, 1, 0]  # IoU must exceed it
    scores[3] = math.nan  # an empty slot
    assert rotated_nms(boxes, scores, 0.3, 99, 99).tolist() == [4, 1, 0]


def test_circle_by_hand():
    centers = torch.tensor([[0.0, 0], [1, 0], [2, 0], [2, 1.001], [math.nan, 0]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    # a distance equal to the threshold suppresses; a suppressed box suppresses nothing
    assert circle_nms(centers, scores, 1.0).tolist() == [0, 2, 3, 4]
    assert circle_nms(centers, scores, 0.99).tolist() == [0, 1, 2, 3, 4]
    assert circle_nms(centers, scores, 1.0, max_input=2).tolist() == [0]
    assert circle_nms(centers, scores, 1.0, max_output=2).tolist() == [0, 2]
    assert circle_nms(centers, torch.zeros(5), 1.0).tolist() == [0, 2, 3, 4]  # ties: lower index
    scores[0] = -math.inf  # an empty slot
    assert circle_nms(centers, scores, 1.0).tolist() == [1, 3, 4]


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.45])
def test_nms_equals_shapely(threshold):
    boxes, scores = random_boxes(50, seed=5, dtype=torch.float64)
    expected = shapely_nms(boxes, scores, threshold).tolist()
    assert rotated_nms(boxes, scores, threshold).tolist() == expected and 3 < len(expected) < 50


@pytest.mark.parametrize("case", [0, 1, 2])
def test_same_as_the_release(case):
    with np.load(PARITY) as arrays:
        read = {
            k: arrays[f"nms{case}.{k}"] for k in ("boxes", "scores", "keep0.2", "keep0.5", "circle")
        }
    boxes, scores = torch.from_numpy(read["boxes"]), torch.from_numpy(read["scores"])
    for threshold in (0.2, 0.5):
        keep = rotated_nms(boxes, scores, threshold, max_input=1000, max_output=83)
        assert keep.tolist() == read[f"keep{threshold}"].tolist()
    keep = circle_nms(boxes[:, :2], scores, 1.0, max_output=83)
    assert keep.tolist() == read["circle"].tolist()


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_iou_equals_the_reference(dtype):
    wide = torch.zeros(60, 8, dtype=dtype)
    wide[:, 1:6], _ = random_boxes(60, seed=2, dtype=dtype)
    boxes = wide[:, 1:6]
    got = rotated_iou(boxes, boxes.contiguous())
    assert got.dtype == (dtype if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(got, rotated_iou_reference(boxes, boxes))


@IOUS
def test_iou_empty(iou):
    assert iou(torch.zeros(0, 5), torch.zeros(3, 5)).shape == (0, 3)
    assert iou(torch.zeros(2, 5), torch.zeros(0, 5)).shape == (2, 0)
    assert iou(torch.zeros(0, 2, 5), torch.zeros(0, 3, 5)).shape == (0, 2, 3)


@IOUS
def test_iou_malformed(iou):
    boxes = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r"boxes_a must be \(\.\.\., M, 5\) of .*got .*3, 4"):
        iou(boxes[:, :4], boxes)
    with pytest.raises(ValueError, match=r"boxes_b must be \(\.\.\., K, 5\) of .*got .*5"):
        iou(boxes, boxes[0])
    with pytest.raises(ValueError, match="boxes_b must be floating point"):
        iou(boxes, boxes.long())
    with pytest.raises(ValueError, match=r"must agree but for their number, got .*3, 5.*1, 3, 5"):
        iou(boxes, boxes[None])


def test_malformed():
    boxes, scores = random_boxes(3)
    with pytest.raises(ValueError, match=r"boxes must be \(M, 5\), got .*3, 4"):
        rotated_nms(boxes[:, :4], scores, 0.2)
    with pytest.raises(ValueError, match=r"scores must be .*1, 3.* beside .*got .*2"):
        rotated_nms(boxes, scores[:2], 0.2)
    with pytest.raises(ValueError, match="max_input must not be negative, got -1"):
        rotated_nms(boxes, scores, 0.2, max_input=-1)
    with pytest.raises(ValueError, match=r"centers must be \(M, 2\), got .*3, 5"):
        circle_nms(boxes, scores, 1.0)
