"""BEV-paste: two samples' BEV maps and boxes in one, as augmentation (SA-BEV, section 3.3).

Shapes: B samples, P splats, M boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.structures import Boxes3D, make_transform, rotation_z

from .registry import PART_REGISTRY
from .view_transform import ViewToBEV


@PART_REGISTRY.register()
class BEVPaste:
    """Sample i receives the BEV of samples i and (i + 1) mod B, both through one random transform.

    A batch of one sample has nothing to paste; it is only transformed.

    Args:
        max_rotation: rotation about z is drawn from +- this many degrees.
        scale: range of the uniform scale.
        flip_prob: probability of a flip, for x and y each.
    """

    def __init__(
        self,
        *,
        max_rotation: float = 22.5,
        scale: tuple[float, float] = (0.95, 1.05),
        flip_prob: float = 0.5,
    ) -> None:
        self.max_rotation = math.radians(max_rotation)
        self.scale = tuple(scale)
        self.flip_prob = flip_prob

    def sample_transforms(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, 4, 4) float32 random transforms, on the CPU; flip after scaled rotation."""
        draw = torch.rand(4, batch_size, generator=generator)
        angle = (2 * draw[0] - 1) * self.max_rotation
        scale = self.scale[0] + draw[1] * (self.scale[1] - self.scale[0])
        flip_x, flip_y = torch.where(draw[2:] < self.flip_prob, -1.0, 1.0)
        flip = torch.stack([flip_x, flip_y, torch.ones(batch_size)], dim=-1)
        return make_transform(flip[:, :, None] * scale[:, None, None] * rotation_z(angle))

    def paste_views(self, view_to_bev: ViewToBEV, transforms: Tensor) -> ViewToBEV:
        """Each view into its own sample and into the one before, through their ``transforms``."""
        times = 2 if view_to_bev.num_samples > 1 else 1
        receiver = (view_to_bev.sample - 1) % view_to_bev.num_samples
        sample = torch.cat([view_to_bev.sample, receiver][:times])
        return replace(
            view_to_bev,
            view=view_to_bev.view.repeat(times),
            sample=sample,
            image2bev=transforms.to(view_to_bev.image2bev)[sample]
            @ view_to_bev.image2bev.repeat(times, 1, 1),
            cells=None,
        )

    def paste_instances(
        self, instances: Sequence[Instances], transforms: Tensor
    ) -> list[Instances]:
        """Boxes of both samples, seen through the receiver's transform."""
        pasted = []
        for i, own in enumerate(instances):
            parts = [own, instances[(i + 1) % len(instances)]][: min(2, len(instances))]
            boxes = Boxes3D.cat([part.gt_boxes_3d for part in parts])
            result = Instances(own.image_size)
            result.gt_boxes_3d = boxes.transformed(transforms[i])
            result.gt_classes = torch.cat([part.gt_classes for part in parts])
            pasted.append(result)
        return pasted
