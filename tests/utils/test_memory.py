"""Memory kept for the backward pass and peak memory, against sums by hand."""

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.engine.lazy_builders import build_optimizer
from fsdbev.layers import EXTENSION_BUILT
from fsdbev.utils.flops import OTHER
from fsdbev.utils.memory import peak_memory, saved_by_part, working_memory

TINY = str(Path(__file__).resolve().parents[2] / "configs" / "fsdbev_tiny_synthetic.py")
FLOAT = 4


class Small(nn.Module):
    """Two layers and, between them, a ReLU that belongs to neither part."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 8))
        self.second = nn.Linear(8, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first[0](x))).sum()


def test_memory_kept_for_backward_by_hand():
    """The first layer keeps its input, the ReLU its output, which is the second layer's input."""
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
        del first  # the view keeps the memory
        second = view.repeat(250)  # 500, the peak
        del view
        third = second + 1  # 500
        given.add_(1)  # in place, on memory from outside
        return third

    peak = peak_memory(run, torch.device("cpu"))
    assert peak == pytest.approx((1000 + 500) * FLOAT, abs=64)  # the operators have scalars


def test_the_peak_includes_the_backward_pass():
    weight = torch.ones(1000, requires_grad=True)

    def run():
        (weight * weight).sum().backward()  # one gradient for each factor

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
    """The key frame's maps of student and teacher: 16 channels on 16x16 cells.

    Two blocks keep their input, and each the inputs of two norms and the outputs of two ReLUs;
    every norm keeps its mean and deviation.
    """
    maps = 2 * 16 * 16 * 16 * FLOAT
    assert memory.saved["temporal_stage"] == (1 + 2 * (2 + 2)) * maps + 4 * 2 * 16 * FLOAT


def test_gradients_and_optimizer_by_hand(model, memory):
    parameters = list(model.parameters())
    assert memory.gradients == FLOAT * sum(p.numel() for p in parameters)
    # AdamW has two averages per weight, and a step counter per parameter.
    assert memory.optimizer == 2 * memory.gradients + FLOAT * len(parameters)


def test_peaks_are_larger_than_their_known_parts(memory):
    assert memory.training > sum(memory.saved.values())
    assert memory.inference > 16 * 16 * 16 * FLOAT  # the features of the key frame's cells
    if EXTENSION_BUILT:  # the reference of NMS needs memory for all pairs of boxes
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
