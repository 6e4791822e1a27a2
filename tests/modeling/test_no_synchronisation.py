"""The training step reads no value from the device, because reading waits for the device.

The test runs on the meta device, where reading a value is an error.
"""

import importlib

import pytest
import torch

from fsdbev.layers import EXTENSION_BUILT

#: Modules that choose between kernels and references; the references read values of tensors.
MODULES_WITH_CHOICE = ("lift_splat", "heatmaps")


@pytest.mark.skipif(not EXTENSION_BUILT, reason="compiled operators not built")
@pytest.mark.parametrize("overrides", [(), ("model.teacher_fill=release", "model.bev_paste=null")])
def test_a_training_step_reads_no_values(build_model, make_samples, monkeypatch, overrides):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: False)
    for name in MODULES_WITH_CHOICE:
        module = importlib.import_module(f"fsdbev.layers.{name}")
        monkeypatch.setattr(module, "has_kernels", lambda device: True)
    model = build_model(*overrides).to("meta").train()
    losses = model(make_samples(training=True))
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.is_meta, name


def test_meta_tensors_have_no_values():
    with pytest.raises(RuntimeError):
        torch.ones(2, device="meta").sum().item()
