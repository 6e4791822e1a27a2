"""Parts and models built by name, and the errors of unknown names and arguments."""

import pytest
import torch
from torch import nn

from fsdbev.modeling import BEVEncoder, build_meta_arch, build_part
from fsdbev.modeling.registry import META_ARCH_REGISTRY, PART_REGISTRY


def test_part_by_its_name():
    encoder = build_part(name="BEVEncoder", frame_channels=2, num_frames=1, out_channels=4)
    assert type(encoder) is BEVEncoder
    assert encoder.eval()(torch.zeros(1, 2, 8, 8)).shape == (1, 4, 8, 8)


def test_unknown_part_lists_the_registered_parts():
    with pytest.raises(ValueError) as caught:
        build_part(name="BevEncoder")
    message = str(caught.value)
    assert "'BevEncoder'; did you mean 'BEVEncoder'?" in message and "train.plugins" in message
    assert all(name in message for name in dict(PART_REGISTRY))


def test_unknown_model_lists_the_registered_models():
    with pytest.raises(ValueError) as caught:
        build_meta_arch(name="SomethingElse")
    assert all(name in str(caught.value) for name in dict(META_ARCH_REGISTRY))
    assert {"FSDBEV", "LiftSplatDetector"} <= set(dict(META_ARCH_REGISTRY))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 8, "width": 3}, "MSFE takes .*threshold; unknown arguments: width"),
        ({}, "threshold; missing arguments: in_channels"),
        ({"channels": 8}, "unknown arguments: channels; missing arguments: in_channels"),
    ],
)
def test_arguments_that_a_part_does_not_take(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_part(name="MSFE", **arguments)


def test_arguments_that_a_subclass_passes_on_are_known():
    with pytest.raises(ValueError) as caught:
        build_meta_arch(name="FSDBEV", backbones=nn.Identity(), msfe=nn.Identity())
    message = str(caught.value)
    assert "teacher_fill" in message and "bev_paste" in message and "parts" not in message
    assert "unknown arguments: backbones;" in message
    assert (
        "missing arguments: backbone, neck, depth_net, view_transform, bev_encoder, head" in message
    )


def test_other_arguments_are_accepted_where_the_part_takes_them(monkeypatch):
    class Flexible(nn.Module):
        def __init__(self, *, channels, **options):
            super().__init__()
            self.options = options

    monkeypatch.setitem(PART_REGISTRY._obj_map, "Flexible", Flexible)
    monkeypatch.setitem(PART_REGISTRY._obj_map, "make", lambda **options: options)
    assert build_part(name="Flexible", channels=2, depth=3).options == {"depth": 3}
    assert build_part(name="make", anything=1) == {"anything": 1}
    with pytest.raises(ValueError, match="missing arguments: channels"):
        build_part(name="Flexible", depth=3)
