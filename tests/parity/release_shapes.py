"""What the public FSD-BEV checkpoints hold, as names and shapes."""

import json

import torch
from small_model import HERE


def release_shapes(depth):
    """Names and shapes of a release checkpoint; the ResNet-101 one differs by SPEC's numbers:
    23 blocks in the third stage, and 236 depth bins."""
    shapes = json.loads((HERE / "keys_r50.json").read_text())
    if depth == 101:
        last_block = {k: v for k, v in shapes.items() if k.startswith("img_backbone.layer3.5.")}
        for block in range(6, 23):
            shapes |= {k.replace("3.5.", f"3.{block}.", 1): v for k, v in last_block.items()}
        depth_conv = "img_view_transformer.depth_net.depth_conv.4."
        shapes |= {depth_conv + "weight": [236, 512, 1, 1], depth_conv + "bias": [236]}
    return shapes


def without_memory(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
