"""BEV-Paste, an augmentation that adds the BEV maps of two samples (SA-BEV, arXiv:2307.11477, 3.3).

Shapes: B samples, P (view, sample) pairs of a ``ViewToBEV``, M boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.structures import Boxes3D, flip_probabilities, make_transform, rotation_z

from .registry import PART_REGISTRY
from .view_transform import ViewToBEV


@PART_REGISTRY.register()
class BEVPaste:
    """Adds the BEV of sample (i + 1) mod B to that of sample i, both under one random transform.

    The boxes of sample i become those of both samples. The view transform does the pasting by
    pooling each view into two maps (docs/model.md, "Foreground self-distillation"). A batch of one
    sample is only transformed.

    Args:
        max_rotation: maximum rotation about z, degrees; drawn uniformly from both directions.
        scale: range of the uniformly drawn scale.
        flip_prob: probability of a flip, for x and y independently; or one for x and one for y.

    Raises:
        ValueError: ``flip_prob`` is no probability.
    """

    def __init__(
        self,
        *,
        max_rotation: float = 22.5,
        scale: tuple[float, float] = (0.95, 1.05),
        flip_prob: float | Sequence[float] = 0.5,
    ) -> None:
        self.max_rotation = math.radians(max_rotation)
        self.scale = tuple(scale)
        self.flip_prob = flip_probabilities(flip_prob)

    def sample_transforms(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws one transform per sample: flip @ (scale * rotation).

        Args:
            batch_size: B.
            generator: CPU generator; the default one if None.

        Returns:
            (B, 4, 4) float32 on the CPU, augmented key ego -> pasted key ego.
        """
        # One draw of (angle, scale, flip x, flip y) for the whole batch, whatever the settings:
        # switching one of them off does not change the other random numbers of a seeded run.
        draw = torch.rand(4, batch_size, generator=generator)
        angle = (2 * draw[0] - 1) * self.max_rotation
        scale = self.scale[0] + draw[1] * (self.scale[1] - self.scale[0])
        flipped = draw[2:] < torch.tensor(self.flip_prob)[:, None]
        flip_x, flip_y = torch.where(flipped, -1.0, 1.0)
        flip = torch.stack([flip_x, flip_y, torch.ones(batch_size)], dim=-1)
        return make_transform(flip[:, :, None] * scale[:, None, None] * rotation_z(angle))

    def paste_views(self, view_to_bev: ViewToBEV, transforms: Tensor) -> ViewToBEV:
        """Sends each view into its own sample and into the previous one.

        Args:
            view_to_bev: each view into its own sample, once.
            transforms: (B, 4, 4) of :meth:`sample_transforms`; a view gets that of the receiving
                sample.
        """
        times = 2 if view_to_bev.num_samples > 1 else 1
        # Sample i receives the views of sample i + 1, so a view goes to the sample before its own.
        receiver = (view_to_bev.sample - 1) % view_to_bev.num_samples
        sample = torch.cat([view_to_bev.sample, receiver][:times])
        return replace(
            view_to_bev,
            view=view_to_bev.view.repeat(times),
            sample=sample,
            # Composed in the calibration's float64, on which the cells of points depend.
            image2bev=transforms.to(view_to_bev.image2bev)[sample]
            @ view_to_bev.image2bev.repeat(times, 1, 1),
            cells=None,  # precomputed cells do not include the transforms
        )

    def paste_instances(
        self, instances: Sequence[Instances], transforms: Tensor
    ) -> list[Instances]:
        """Merges the boxes of samples i and (i + 1) mod B under the transform of sample i.

        Args:
            instances: one per sample, with ``gt_boxes_3d`` and ``gt_classes``.
            transforms: (B, 4, 4) of :meth:`sample_transforms`.

        Returns:
            New instances, one per sample.
        """
        pasted = []
        for i, receiver in enumerate(instances):
            parts = [receiver, instances[(i + 1) % len(instances)]][: min(2, len(instances))]
            boxes = Boxes3D.cat([part.gt_boxes_3d for part in parts])
            result = Instances(receiver.image_size)
            result.gt_boxes_3d = boxes.transformed(transforms[i])
            result.gt_classes = torch.cat([part.gt_classes for part in parts])
            pasted.append(result)
        return pasted
