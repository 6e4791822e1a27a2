"""Rotated IoU, rotated and circle NMS: by hand, against shapely, the twin and the release."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from shapely.geometry import Polygon

from fsdbev.layers import (
    EXTENSION_BUILT,
    circle_nms,
    circle_nms_reference,
    rotated_iou,
    rotated_iou_reference,
    rotated_nms,
    rotated_nms_reference,
)

PARITY = Path(__file__).parents[1] / "parity" / "components.npz"
OPS = pytest.mark.parametrize("nms", [rotated_nms, rotated_nms_reference], ids=["op", "twin"])
IOUS = pytest.mark.parametrize("iou", [rotated_iou, rotated_iou_reference], ids=["op", "twin"])
CIRCLES = pytest.mark.parametrize("nms", [circle_nms, circle_nms_reference], ids=["op", "twin"])

needs_extension = pytest.mark.skipif(not EXTENSION_BUILT, reason="compiled operators not built")


def random_boxes(number, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([6.0, 6.0, 5.0, 3.0, 7.0], dtype=torch.float64)
    shift = torch.tensor([-3.0, -3.0, 0.1, 0.1, -3.5], dtype=torch.float64)
    boxes = torch.rand(number, 5, generator=generator, dtype=torch.float64) * scale + shift
    return boxes.to(dtype), torch.rand(number, generator=generator)


def polygon(box):
    x, y, length, width, yaw = box.tolist()
    cos, sin = math.cos(yaw), math.sin(yaw)
    corners = [(length * i / 2, width * j / 2) for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return Polygon([(x + cos * p - sin * q, y + sin * p + cos * q) for p, q in corners])


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


@IOUS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_iou_equals_shapely(iou, dtype):
    a, b = random_boxes(40, 0, dtype)[0], random_boxes(30, 1, dtype)[0]
    a[:5] = b[:5]  # equal boxes
    a[5:10, :4], a[5:10, 4] = b[5:10, :4], b[5:10, 4] + math.pi
    got = iou(a, b)
    assert got.dtype == dtype and got.shape == (40, 30)
    pa, pb = [polygon(box) for box in a.double()], [polygon(box) for box in b.double()]
    expected = [[p.intersection(q).area / p.union(q).area for q in pb] for p in pa]
    expected = torch.tensor(expected, dtype=torch.float64).to(dtype)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(got, iou(b, a).T)


@IOUS
def test_iou_of_boxes_apart_is_zero(iou):
    boxes = random_boxes(40, 4)[0]
    expected = torch.tensor([[polygon(p).intersects(polygon(q)) for q in boxes] for p in boxes])
    assert torch.equal(iou(boxes, boxes) > 0, expected) and not expected.all()


@IOUS
def test_iou_of_degenerate_boxes_is_zero(iou):
    boxes = torch.tensor(
        [
            [0, 0, 2, 2, 0],
            [0, 0, 0, 2, 0],
            [0, 0, -2, 2, 0],
            [0, 0, -2, -2, 0],
            [math.nan, 0, 2, 2, 0],
            [0, 0, math.inf, 2, 0],
            [0, 0, 2, 2, math.nan],
        ]
    )
    expected = torch.zeros(7, 7)
    expected[0, 0] = 1
    assert torch.equal(iou(boxes, boxes), expected)


@OPS
def test_nms_by_hand(nms):
    # b overlaps a by 1/3, c overlaps b by 1/3 but not a, d is far, e equals a.
    a, b, c, d = [0.0, 0, 2, 2, 0], [1.0, 0, 2, 2, 0], [2.0, 0, 2, 2, 0], [9.0, 0, 2, 2, 0]
    boxes = torch.tensor([d, c, b, a, a])
    scores = torch.tensor([0.1, 0.7, 0.8, 0.9, 0.9])
    assert nms(boxes, scores, 0.3).tolist() == [3, 1, 0]
    assert nms(boxes, scores, 0.34).tolist() == [3, 2, 1, 0]
    assert nms(boxes, scores, 0.34, max_output=2).tolist() == [3, 2]
    assert nms(boxes, scores, 0.34, max_input=3).tolist() == [3, 2]  # the best three: a, a, b
    assert nms(boxes, scores, 0.3, max_input=0).tolist() == []
    assert nms(boxes, scores, 0.3, max_output=0).tolist() == []
    assert nms(boxes, scores, 1.0).tolist() == [3, 4, 2, 1, 0]  # suppression needs more than 1


@OPS
def test_boxes_without_area_neither_suppress_nor_go(nms):
    boxes = torch.zeros(3, 5)
    boxes[2] = math.nan
    assert nms(boxes, torch.tensor([0.1, 0.3, 0.2]), 0.0).tolist() == [1, 2, 0]


@CIRCLES
def test_circle_by_hand(nms):
    centers = torch.tensor([[0.0, 0], [1, 0], [2, 0], [2, 1.001], [math.nan, 0]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    # exactly at the distance goes; a box that went suppresses nothing
    assert nms(centers, scores, 1.0).tolist() == [0, 2, 3, 4]
    assert nms(centers, scores, 0.99).tolist() == [0, 1, 2, 3, 4]
    assert nms(centers, scores, 1.0, max_input=2).tolist() == [0]
    assert nms(centers, scores, 1.0, max_output=2).tolist() == [0, 2]
    assert nms(centers, torch.zeros(5), 1.0).tolist() == [0, 2, 3, 4]  # ties: lower index first


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
def test_op_equals_twin(dtype):
    boxes, scores = random_boxes(60, 2, dtype)
    scores[::3] = 0.5  # ties
    scores = scores.to(dtype)
    padded = torch.zeros(60, 8, dtype=dtype)
    padded[:, 1:6] = boxes
    strided = padded[:, 1:6]
    torch.testing.assert_close(rotated_iou(strided, boxes), rotated_iou_reference(boxes, boxes))
    for threshold in (0.0, 0.1, 0.5):
        got, want = (
            nms(strided, scores, threshold) for nms in (rotated_nms, rotated_nms_reference)
        )
        assert torch.equal(got, want) and 0 < len(got) < 60
        centers = strided[:, :2]
        got, want = (nms(centers, scores, threshold) for nms in (circle_nms, circle_nms_reference))
        assert torch.equal(got, want)


@OPS
def test_empty(nms):
    assert nms(torch.zeros(0, 5), torch.zeros(0), 0.2).shape == (0,)
    assert nms(torch.zeros(0, 5), torch.zeros(0), 0.2, 1000, 83).dtype == torch.int64


@CIRCLES
def test_circle_empty(nms):
    assert nms(torch.zeros(0, 2), torch.zeros(0), 1.0).shape == (0,)


@IOUS
def test_iou_empty(iou):
    assert iou(torch.zeros(0, 5), torch.zeros(3, 5)).shape == (0, 3)
    assert iou(torch.zeros(2, 5), torch.zeros(0, 5)).shape == (2, 0)


@OPS
def test_malformed(nms):
    boxes, scores = random_boxes(3, 0)
    with pytest.raises(ValueError, match=r"boxes must be \(M, 5\), got .*3, 4"):
        nms(boxes[:, :4], scores, 0.2)
    with pytest.raises(ValueError, match=r"scores must be \(M,\) .*got .*2"):
        nms(boxes, scores[:2], 0.2)
    with pytest.raises(ValueError, match="boxes must be floating point"):
        nms(boxes.long(), scores, 0.2)
    with pytest.raises(ValueError, match="score 1 is NaN"):
        nms(boxes, torch.tensor([0.1, math.nan, 0.2]), 0.2)
    with pytest.raises(ValueError, match="max_input must not be negative, got -1"):
        nms(boxes, scores, 0.2, max_input=-1)
    with pytest.raises(ValueError, match="max_output must not be negative, got -1"):
        nms(boxes, scores, 0.2, max_output=-1)


@CIRCLES
def test_circle_malformed(nms):
    with pytest.raises(ValueError, match=r"must be \(M, 2\), got .*3, 5"):
        nms(torch.zeros(3, 5), torch.zeros(3), 1.0)


@needs_extension
def test_opcheck():
    boxes, scores = random_boxes(20, 3)
    ops = torch.ops.fsdbev
    torch.library.opcheck(ops.rotated_iou.default, (boxes, boxes[:7]))
    torch.library.opcheck(ops.rotated_nms.default, (boxes, scores, 0.2, 1000, 83))
    torch.library.opcheck(ops.circle_nms.default, (boxes[:, :2], scores, 1.0))
