"""ResNet: torchvision's parameters, strides, activation checkpointing."""

import pytest
import torch

from fsdbev.modeling.backbone import ResNet, resnet_channels


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(18, 11_176_512), (34, 21_284_672), (50, 23_508_032), (101, 42_500_160)],
)
def test_has_as_many_parameters_as_torchvision_without_fc(depth, parameters):
    with torch.device("meta"):
        model = ResNet(depth=depth)
    assert sum(p.numel() for p in model.parameters()) == parameters
    with pytest.raises(ValueError, match="got 20"):
        ResNet(depth=20)


@pytest.mark.parametrize("depth", [18, 50])
def test_strides_and_channels(depth):
    model = ResNet(depth=depth, width=4)
    features = model(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape[1:]) for f in features] == [
        (c, 64 // s, 96 // s)
        for c, s in zip(resnet_channels(depth, 4), (4, 8, 16, 32), strict=True)
    ]


def test_stride_is_in_the_3x3_convolution_and_names_are_torchvisions():
    model = ResNet(depth=50, width=4)
    block = model.get_submodule("layer2.0")
    assert [block.conv1.stride, block.conv2.stride] == [(1, 1), (2, 2)]
    assert {"layer4.2.bn3.running_var", "layer1.0.downsample.0.weight", "bn1.bias"} <= set(
        model.state_dict()
    )


def test_activation_checkpointing_changes_nothing():
    torch.manual_seed(0)
    plain = ResNet(depth=50, width=4)
    checkpointing = ResNet(depth=50, width=4, activation_checkpoint=True)
    checkpointing.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for model in (plain, checkpointing):
        model(images)[-1].square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), checkpointing.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)
    # The second forward pass does not update the running statistics again.
    for (name, a), b in zip(plain.named_buffers(), checkpointing.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
