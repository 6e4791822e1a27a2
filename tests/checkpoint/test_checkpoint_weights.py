"""Loading weights into a model, and the report of those that do not fit."""

import logging

import pytest
import torch
from torch import nn

from fsdbev.checkpoint import load_weights


class Backbone(nn.Module):
    """Model with the first parameter names of torchvision's ResNets."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Sequential())
        self.layer1[0].add_module("conv1", nn.Conv2d(4, 4, 1, bias=False))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(4, 2)
        self.head2 = nn.Linear(4, 2)


@pytest.fixture
def save(tmp_path):
    def save(data):
        torch.save(data, tmp_path / "w.pth")
        return str(tmp_path / "w.pth")

    return save


def averaged(weights):
    raw = {name: torch.zeros_like(value) for name, value in weights.items()}
    return {"model": raw, "ema": {"model": weights, "updates": 3}}


@pytest.mark.parametrize(
    "content_of",
    [
        lambda weights: {"model": weights},
        averaged,
        lambda weights: {f"module.{k}": v for k, v in weights.items()},
    ],
    ids=["model", "averaged", "distributed"],
)
def test_everything_fits(save, content_of):
    source, model = Model(), Model()
    report = load_weights(model, save(content_of(source.state_dict())), strict=True)
    assert not report.problems() and len(report.loaded) == len(source.state_dict())
    assert torch.equal(model.head.weight, source.head.weight)


def test_torchvision_weights_are_loaded_into_the_backbone(save, caplog):
    source, model = Backbone(), Model()
    nn.init.constant_(source.bn1.running_mean, 7.0)
    weights = source.state_dict()
    weights.pop("bn1.num_batches_tracked")  # torchvision's oldest files lack it
    weights |= {"fc.weight": torch.zeros(5, 4), "fc.bias": torch.zeros(5)}
    with caplog.at_level(logging.INFO, logger="fsdbev.checkpoint.weights"):
        report = load_weights(model, save(weights), strict=False)
    assert torch.equal(model.backbone.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    assert model.backbone.bn1.running_mean.tolist() == [7.0] * 4
    assert report.missing == ("head.weight", "head.bias", "head2.weight", "head2.bias")
    assert not report.unexpected and not report.mismatched
    assert "Parts from the file: backbone. Anew: head, head2" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_parameters_that_do_not_fit_are_reported_and_unchanged(save, caplog):
    model = Model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    weights = Model().state_dict()
    weights["head.weight"] = torch.zeros(3, 4)
    weights["neck.weight"] = torch.zeros(1)
    del weights["head2.bias"]
    path = save(weights)
    with pytest.raises(ValueError) as error:
        load_weights(model, path, strict=True)
    for part in (path, "head2 1 (head2.bias)", "head.weight: (3, 4), not (2, 4)", "neck 1"):
        assert part in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())

    with caplog.at_level(logging.WARNING, logger="fsdbev.checkpoint.weights"):
        report = load_weights(model, path, strict=False)
    assert report.missing == ("head2.bias",) and report.unexpected == ("neck.weight",)
    assert torch.equal(model.head.weight, before["head.weight"])
    assert torch.equal(model.head2.weight, weights["head2.weight"])
    assert "head.weight: (3, 4), not (2, 4)" in caplog.text and "neck.weight" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"epoch": 3, "net": {"w": torch.zeros(1)}}, r"'epoch' \(int\), 'net' \(dict\)"),
        ({"state_dict": [torch.zeros(1)]}, r"no weights, but \[tensor"),
        ({"model": {}}, "no weights, but {}"),
        ({1: torch.zeros(1)}, r"1 \(Tensor\)"),
    ],
)
def test_file_without_weights(save, data, message):
    with pytest.raises(ValueError, match=message):
        load_weights(Model(), save(data), strict=False)


@pytest.mark.parametrize(
    ("extra", "strict", "message"),
    [
        ({"a": torch.zeros(1)}, False, "does not fit the model"),
        (
            {**Model().state_dict(), "old.weight": torch.zeros(1)},
            True,
            r"in the file but not in the model: old 1 \(old.weight\)",
        ),
    ],
)
def test_names_that_the_model_lacks(save, extra, strict, message):
    """A strict load accepts no other model than the one that was trained."""
    model = Model()
    before = model.head.weight.clone()
    with pytest.raises(ValueError, match=message):
        load_weights(model, save(extra), strict=strict)
    assert torch.equal(model.head.weight, before)
