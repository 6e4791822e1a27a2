"""What the public FSD-BEV checkpoints hold, as names and shapes."""

import json

import torch
from small_model import HERE


def release_shapes(depth):
    """Names and shapes of a release checkpoint; the ResNet-101 one differs as docs/model.md says:
    23 blocks in the third stage, and 236 depth bins."""
    shapes = json.loads((HERE / "keys_r50.json").read_text())
    if depth == 101:
        last_block = {k: v for k, v in shapes.items() if k.startswith("img_backbone.layer3.5.")}
        for block in range(6, 23):
            shapes |= {k.replace("3.5.", f"3.{block}.", 1): v for k, v in last_block.items()}
        depth_conv = "img_view_transformer.depth_net.depth_conv.4."
        shapes |= {depth_conv + "weight": [236, 512, 1, 1], depth_conv + "bias": [236]}
    return shapes


def bevdet_shapes():
    """Names and shapes of public checkpoints from BEVDet's code base, ResNet-50: those of the
    release without MSFE, with a neck of two maps. Their depth networks differ by the model."""
    others = ("img_neck.", "img_roi_head.")
    shapes = {k: v for k, v in release_shapes(50).items() if not k.startswith(others)}
    for level, channels in enumerate((1024, 2048)):
        shapes[f"img_neck.lateral_convs.{level}.conv.weight"] = [512, channels, 1, 1]
        shapes[f"img_neck.lateral_convs.{level}.conv.bias"] = [512]
    shapes["img_neck.fpn_convs.0.conv.weight"] = [512, 512, 3, 3]
    shapes["img_neck.fpn_convs.0.conv.bias"] = [512]
    return shapes


def fake_weights(shapes):
    """A tensor for every name, each of a value of its own."""
    return {name: torch.full(shape, 0.01 * i) for i, (name, shape) in enumerate(shapes.items())}


def without_memory(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
