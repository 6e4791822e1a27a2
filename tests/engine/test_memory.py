"""Memory of weights, kept for the backward pass and at the peak: against sums by hand."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.engine import load_config
from fsdbev.engine.memory import (
    OTHER,
    LiveTensors,
    PartWeights,
    saved_by_part,
    weights_by_part,
    working_memory,
)
from fsdbev.engine.optim import build_optimizer
from fsdbev.layers import EXTENSION_BUILT

TINY = str(Path(__file__).resolve().parents[2] / "configs" / "fsdbev_tiny_synthetic.py")
FLOAT = 4
OVERRIDES = ["dataloader.image_size=[64,96]", "model.grid.cell=3.5", "train.device=cpu"]


class Small(nn.Module):
    """Two layers with a ReLU between them, and a parameter and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.second = nn.Linear(8, 1)
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("mean", torch.zeros(5, dtype=torch.float64), persistent=False)

    def forward(self, x):
        return self.second(torch.relu(self.first[0](x))).sum()


def test_weights_by_hand():
    assert weights_by_part(Small()) == {
        "first": PartWeights((4 * 8 + 8 + 2 * 8) * FLOAT, 2 * 8 * FLOAT + 8),
        "second": PartWeights((8 + 1) * FLOAT, 0),
        OTHER: PartWeights(3 * FLOAT, 5 * 8),
    }


def test_what_is_kept_for_backward_by_hand():
    """The first layer keeps its input, ReLU its output, which is the second layer's input."""
    model = Small()
    with saved_by_part(model) as saved:
        loss = model(torch.ones(2, 4))
    assert saved == {"first": 2 * 4 * FLOAT, OTHER: 2 * 8 * FLOAT}
    loss.backward()
    assert model.first[0].weight.grad is not None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_nothing_is_kept_without_gradients():
    with torch.no_grad(), saved_by_part(model := Small()) as saved:
        model(torch.ones(2, 4))
    assert not saved


def test_the_peak_by_hand():
    given = torch.ones(1000)
    with LiveTensors() as tensors:
        first = given + 1  # 1000
        view = first[:2]
        del first  # the view holds it
        second = view.repeat(250)  # 500, the peak
        del view
        third = second + 1  # 500
        given.add_(1)  # in place, and not made here
        assert tensors.now == (500 + 500) * FLOAT
    assert tensors.peak == (1000 + 500) * FLOAT
    assert third.shape == (500,)


def test_the_peak_sees_the_backward_pass():
    weight = torch.ones(1000, requires_grad=True)
    with LiveTensors() as tensors:
        loss = (weight * 2).sum()
        kept = tensors.now
        loss.backward()
        assert weight.grad is not None and tensors.now > kept
    assert tensors.now >= 1000 * FLOAT


@pytest.fixture(scope="module")
def cfg():
    return load_config(TINY, OVERRIDES)


@pytest.fixture(scope="module")
def memory(cfg):
    model = instantiate(cfg.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    build = partial(build_optimizer, cfg.optimizer)
    measured = working_memory(model, image_size=(64, 96), num_cameras=2, optimizer=build)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return measured


def test_temporal_stage_by_hand(memory):
    """The key frame's maps of student and teacher, 16 channels on 16x16 cells. Of two blocks: their
    input, the inputs of two norms each, and what each ReLU gives; mean and deviation by norm."""
    maps = 2 * 16 * 16 * 16 * FLOAT
    assert memory.saved["temporal_stage"] == (1 + 2 * (2 + 2)) * maps + 4 * 2 * 16 * FLOAT


def test_gradients_and_optimizer_by_hand(cfg, memory):
    parameters = list(instantiate(cfg.model).parameters())
    assert memory.gradients == FLOAT * sum(p.numel() for p in parameters)
    assert memory.optimizer == 2 * memory.gradients + FLOAT * len(parameters)  # AdamW, its steps


def test_peaks_hold_what_they_must(cfg, memory):
    assert memory.training > sum(memory.saved.values())
    assert memory.inference > 16 * 16 * 16 * FLOAT  # the features of the key frame's cells
    if EXTENSION_BUILT:  # the twin of NMS holds all pairs of boxes
        assert memory.inference < memory.training


def test_a_larger_batch_keeps_more(cfg, memory):
    model = instantiate(cfg.model)
    two = working_memory(model, image_size=(64, 96), num_cameras=2, batch_size=2)
    assert two.saved["backbone"] > 1.8 * memory.saved["backbone"]
    assert (two.gradients, two.optimizer) == (memory.gradients, 0)


def test_checkpointing_of_the_backbone_keeps_less(memory):
    cfg = LazyConfig.load(TINY)
    cfg.model.backbone.activation_checkpoint = True
    cfg.model.grid.cell = 3.5
    less = working_memory(instantiate(cfg.model), image_size=(64, 96), num_cameras=2)
    assert less.saved["backbone"] < 0.7 * memory.saved["backbone"]
    assert less.training < memory.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(cfg, memory):
    model = instantiate(cfg.model).cuda()
    build = partial(build_optimizer, cfg.optimizer)
    found = working_memory(model, image_size=(64, 96), num_cameras=2, optimizer=build)
    assert found.gradients == memory.gradients and found.optimizer == memory.optimizer
    assert found.training > sum(found.saved.values())
