"""Image features with the additional maps of a subclass."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fsdbev.modeling import ImageFeatures


@dataclass(frozen=True)
class MoreFeatures(ImageFeatures):
    fine: Tensor | None = None


@pytest.fixture
def image():
    shapes = {"features": (4, 3, 2, 2), "foreground": (4, 2, 2), "fine": (4, 1, 4, 4)}
    return MoreFeatures(**{name: torch.rand(shape) for name, shape in shapes.items()})


def test_cat_of_parts_is_the_original(image):
    parts = image.split([1, 3])
    assert [type(part) for part in parts] == [MoreFeatures] * 2
    assert parts[1].fine.shape == (3, 1, 4, 4) and parts[0].logits is None
    joined = ImageFeatures.cat(parts)
    assert type(joined) is MoreFeatures and joined.logits is None
    assert ImageFeatures.cat([image]) is image
    for name in ("features", "foreground", "fine"):
        assert torch.equal(getattr(joined, name), getattr(image, name))


def test_map_is_applied_to_every_tensor_and_not_to_none(image):
    doubled = image.map(lambda x: 2 * x)
    assert torch.equal(doubled.fine, 2 * image.fine) and doubled.logits is None
    assert torch.equal(doubled.features, 2 * image.features)
