"""Intersection over union of class masks."""

import math

import torch

from fsdbev.evaluation import ImageMaskEvaluator
from fsdbev.structures import ClassSet


def test_counts_by_hand():
    classes = ClassSet(names=("car", "bus", "cone"))
    evaluator = ImageMaskEvaluator(classes=classes)
    objects = torch.zeros(8, 16, dtype=torch.uint8)
    objects[:, 0:8] = 1  # a car in two of the four cells per row, 2 x 4 cells of 4 pixels
    objects[0:4, 12:13] = 2  # a bus in a quarter of a cell: no cell of its own
    masks = torch.zeros(3, 2, 4)
    masks[0, 0, :] = 0.9  # 2 cells of the car and 2 others
    evaluator.process(
        [{"gt_objects": objects, "gt_classes": torch.tensor([0, 1])}], [{"masks": masks}]
    )
    found = evaluator.evaluate()["masks"]
    assert found["IoU/car"] == found["mIoU"] == 2 / 6
    assert math.isnan(found["IoU/bus"]) and math.isnan(found["IoU/cone"])
    evaluator.reset()
    assert math.isnan(evaluator.evaluate()["masks"]["IoU/car"])
