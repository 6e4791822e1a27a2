"""Memory kept for the backward pass and at the peak: against sums by hand."""

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.engine.optim import build_optimizer
from fsdbev.layers import EXTENSION_BUILT
from fsdbev.utils.flops import OTHER
from fsdbev.utils.memory import peak_memory, saved_by_part, working_memory

TINY = str(Path(__file__).resolve().parents[2] / "configs" / "fsdbev_tiny_synthetic.py")
FLOAT = 4


class Small(nn.Module):
    """Two layers with a ReLU between them, which no part runs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 8))
        self.second = nn.Linear(8, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first[0](x))).sum()


def test_what_is_kept_for_backward_by_hand():
    """The first layer keeps its input, ReLU its output, which is the second layer's input."""
    model, saved = Small(), Counter()
    with saved_by_part(model, saved):
        loss = model(torch.ones(2, 4))
    assert saved == {"first": 2 * 4 * FLOAT, OTHER: 2 * 8 * FLOAT}
    loss.backward()
    assert model.first[0].weight.grad is not None
    with torch.no_grad(), saved_by_part(model, unsaved := Counter()):
        model(torch.ones(2, 4))
    assert not unsaved


def test_the_peak_by_hand():
    given = torch.ones(1000)

    def run():
        first = given + 1  # 1000
        view = first[:2]
        del first  # the view holds it
        second = view.repeat(250)  # 500, the peak
        del view
        third = second + 1  # 500
        given.add_(1)  # in place, and not made here
        return third

    peak = peak_memory(run, torch.device("cpu"))
    assert peak == pytest.approx((1000 + 500) * FLOAT, abs=64)  # and scalars of the operators


def test_the_peak_has_the_backward_pass():
    weight = torch.ones(1000, requires_grad=True)

    def run():
        (weight * weight).sum().backward()  # a gradient for either side

    assert peak_memory(run, torch.device("cpu")) >= 2 * 1000 * FLOAT


def build(*overrides):
    torch.manual_seed(0)
    return instantiate(load_config(TINY, ["model.grid.cell=3.5", *overrides]).model)


def measure(model, batch_size=1):
    batch = fake_samples(
        batch_size, num_frames=2, num_cameras=2, image_size=(64, 96), training=True
    )
    return working_memory(model, batch, partial(build_optimizer, load_config(TINY).optimizer))


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def memory(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measured = measure(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return measured


def test_temporal_stage_by_hand(memory):
    """The key frame's maps of student and teacher, 16 channels on 16x16 cells. Of two blocks: their
    input, the inputs of two norms each, and what each ReLU gives; mean and deviation by norm."""
    maps = 2 * 16 * 16 * 16 * FLOAT
    assert memory.saved["temporal_stage"] == (1 + 2 * (2 + 2)) * maps + 4 * 2 * 16 * FLOAT


def test_gradients_and_optimizer_by_hand(model, memory):
    parameters = list(model.parameters())
    assert memory.gradients == FLOAT * sum(p.numel() for p in parameters)
    assert memory.optimizer == 2 * memory.gradients + FLOAT * len(parameters)  # AdamW, its steps


def test_peaks_hold_what_they_must(memory):
    assert memory.training > sum(memory.saved.values())
    assert memory.inference > 16 * 16 * 16 * FLOAT  # the features of the key frame's cells
    if EXTENSION_BUILT:  # the reference of NMS holds all pairs of boxes
        assert memory.inference < memory.training


def test_a_larger_batch_keeps_more(model, memory):
    two = measure(model, batch_size=2)
    assert two.saved["backbone"] > 1.8 * memory.saved["backbone"]
    assert (two.gradients, two.optimizer) == (memory.gradients, memory.optimizer)


def test_checkpointing_of_the_backbone_keeps_less(memory):
    less = measure(build("model.backbone.activation_checkpoint=true"))
    assert less.saved["backbone"] < 0.7 * memory.saved["backbone"]
    assert less.training < memory.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(memory):
    found = measure(build().cuda())
    assert found.gradients == memory.gradients and found.optimizer == memory.optimizer
    assert found.training > sum(found.saved.values())
