"""Pre-training of image backbone and neck on 2D labels."""

import math

import pytest
import torch

from fsdbev.config import load_config
from fsdbev.inference.model_builder import build_model
from fsdbev.modeling.meta_arch.image_pretraining import (
    box_loss,
    class_masks,
    mask_loss,
    object_boxes,
)


def sample(height=32, width=64, seed=0):
    """Returns an image with object 1 of class 3 and object 2 of class 0."""
    generator = torch.Generator().manual_seed(seed)
    objects = torch.zeros(height, width, dtype=torch.uint8)
    objects[4:20, 8:24] = 1
    objects[12:28, 40:60] = 2
    images = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
    return {"images": images, "gt_objects": objects, "gt_classes": torch.tensor([3, 0])}


def test_boxes_of_the_visible_pixels():
    objects = torch.zeros(2, 6, 8, dtype=torch.uint8)
    objects[0, 1:3, 2:7] = 1
    objects[0, 2, 4] = 2  # hides a part of object 1, whose box stays
    objects[1, 5, 7] = 1
    boxes = object_boxes(objects, 2)
    assert boxes[0, 1].tolist() == [2, 1, 7, 3] and boxes[0, 2].tolist() == [4, 2, 5, 3]
    assert boxes[1, 1].tolist() == [7, 5, 8, 6]


def test_masks_of_the_classes():
    one = sample()
    masks = class_masks(one["gt_objects"][None], [one["gt_classes"]], 5)
    assert masks.shape == (1, 5, 32, 64)
    assert torch.equal(masks[0, 3], (one["gt_objects"] == 1).float())
    assert torch.equal(masks[0, 0], (one["gt_objects"] == 2).float())
    assert masks[0, [1, 2, 4]].sum() == 0


def test_mask_loss_by_hand():
    """One cell half covered, predicted with probability 0.25: (0.5 - 0.25)^2 * entropy / 1."""
    logits = torch.full((1, 1, 1, 1), math.log(0.25 / 0.75))
    entropy = -(0.5 * math.log(0.25) + 0.5 * math.log(0.75))
    loss = mask_loss(logits, torch.full((1, 1, 1, 1), 0.5))
    assert loss.item() == pytest.approx(0.0625 * entropy)
    assert mask_loss(logits, torch.full((1, 1, 1, 1), 0.25)).item() == 0


def test_box_loss_by_hand():
    """Exact distances have no loss; a box of half the width inside the true one has GIoU 0.5."""
    objects = torch.zeros(1, 8, 8, dtype=torch.uint8)
    objects[0, 1:7, 0:8] = 1
    boxes = object_boxes(objects, 1)
    stride = 4
    centers = torch.tensor([2.0, 6.0])
    x, y = centers.expand(2, 2), centers[:, None].expand(2, 2)
    exact = torch.stack([x - 0, y - 1, 8 - x, 7 - y])[None] / stride
    assert box_loss(exact.log(), objects, boxes, stride).item() == pytest.approx(0, abs=1e-6)
    half = torch.stack([x - 2, y - 1, 6 - x, 7 - y])[None].clamp(min=1e-6) / stride
    assert box_loss(half.log(), objects, boxes, stride).item() == pytest.approx(0.5, abs=1e-3)
    none = torch.zeros_like(objects)
    assert box_loss(exact.log(), none, boxes, stride).item() == 0


@pytest.fixture(scope="module")
def config():
    return load_config("configs/pretraining/street.py", ["train.device=cpu"])


def test_every_parameter_learns(config):
    model = build_model(config).train()
    losses = model([sample(seed=0), sample(seed=1)])
    assert set(losses) == {f"stride{s}.loss_{n}" for s in (4, 8, 16) for n in ("mask", "box")}
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    (output,) = model.eval()([sample()])
    assert output["masks"].shape == (10, 8, 16) and 0 <= output["masks"].min()


def test_image_without_objects(config):
    empty = sample() | {"gt_classes": torch.zeros(0, dtype=torch.int64)}
    empty["gt_objects"] = torch.zeros_like(empty["gt_objects"])
    losses = build_model(config).train()([empty])
    assert all(loss.isfinite() for loss in losses.values())
