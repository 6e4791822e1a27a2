"""ImagePretraining, which trains backbone and neck on 2D labels.

Shapes: V images, (H, W) image size, (h, w) = (H, W) / stride cells of a level, K classes, M objects
of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn import giou_loss
from torch import Tensor, nn

from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.modeling.blocks import heatmap_head
from fsdbev.modeling.precision import full_precision
from fsdbev.structures import ClassSet

#: Bound of the predicted log distance to the side of a box (403 strides): an untrained head would
#: otherwise predict boxes that are not finite.
_MAX_LOG_DISTANCE = 6.0


@META_ARCH_REGISTRY.register()
class ImagePretraining(nn.Module):
    """Image backbone and neck with a small head per level that predicts class masks and boxes.

    Only the weights of backbone and neck are meant to be kept: they initialise those of a detector.
    The labels are those of nuImages, as for the backbones that the paper compares; depth is not
    among them.

    Every cell of a level predicts the share of its pixels that belongs to each class, and the
    distances to the four sides of the box around the visible part of the object at its centre (as
    FCOS, arXiv:1904.01355).

    The forward pass takes a ``list[dict]`` with one dict per image, see ``ImageLabelMapper``. In
    training it returns ``stride{s}.loss_mask`` and ``stride{s}.loss_box`` of each level; in
    evaluation one dict per image: ``masks`` (K, h, w), the probabilities of the finest level.

    Args:
        backbone: image backbone, (V, 3, H, W) -> maps of strides 4 to 32.
        neck: feature pyramid with the maps of ``strides``, fine to coarse.
        classes: the K classes.
        strides: strides of the maps of the neck, pixels.
        pixel_mean: per-channel mean, RGB 0..255.
        pixel_std: per-channel standard deviation, RGB 0..255.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        classes: ClassSet,
        strides: Sequence[int] = (4, 8, 16),
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.classes = classes
        self.strides = tuple(strides)
        self.heads = nn.ModuleList(
            heatmap_head(neck.out_channels, len(classes) + 4) for _ in strides
        )
        for head in self.heads:
            nn.init.zeros_(head[-1].bias[len(classes) :])
        self.saved_settings = {"pixel_mean": pixel_mean, "pixel_std": pixel_std}
        for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(value).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Computes losses in training mode, masks in evaluation mode.

        Args:
            batched_inputs: one dict per image, see the class.
        """
        images = torch.stack([sample["images"].to(self.device) for sample in batched_inputs])
        pyramid = self.neck(self.backbone((images - self.pixel_mean) / self.pixel_std))
        if not self.training:
            finest = self.heads[0](pyramid[0])
            return [{"masks": masks} for masks in finest[:, : len(self.classes)].sigmoid()]
        levels = [head(maps) for head, maps in zip(self.heads, pyramid, strict=True)]
        objects = torch.stack([sample["gt_objects"].to(self.device) for sample in batched_inputs])
        classes = [sample["gt_classes"].to(self.device) for sample in batched_inputs]
        boxes = object_boxes(objects, max(len(each) for each in classes))
        share = class_masks(objects, classes, len(self.classes))
        losses = {}
        for stride, maps in zip(self.strides, levels, strict=True):
            logits, log_distances = maps.split((len(self.classes), 4), dim=1)
            share = F.adaptive_avg_pool2d(share, logits.shape[-2:])
            losses[f"stride{stride}.loss_mask"] = mask_loss(logits, share)
            losses[f"stride{stride}.loss_box"] = box_loss(log_distances, objects, boxes, stride)
        return losses


def class_masks(objects: Tensor, classes: Sequence[Tensor], num_classes: int) -> Tensor:
    """Returns the (V, K, H, W) float32 masks of the classes.

    Args:
        objects: (V, H, W) number of the object at each pixel, 0 for the background.
        classes: for each image (M,) the class of the objects 1 .. M.
        num_classes: K.
    """
    ids = torch.arange(num_classes, dtype=torch.uint8, device=objects.device)[:, None, None]
    masks = []
    for numbers, class_ids in zip(objects, classes, strict=True):
        # One byte per pixel: the comparison with all classes is the largest tensor here.
        class_of = F.pad(class_ids, (1, 0), value=num_classes).to(torch.uint8)
        masks.append(class_of[numbers.int()] == ids)
    return torch.stack(masks).float()


def object_boxes(objects: Tensor, count: int) -> Tensor:
    """Returns (V, M + 1, 4) x1, y1, x2, y2 of the visible pixels of the objects 0 .. M.

    In pixels; x2 and y2 are exclusive.

    Args:
        objects: (V, H, W) number of the object at each pixel.
        count: M. Boxes of objects without a pixel are meaningless.
    """
    views, height, width = objects.shape
    numbers, shape = objects.long().flatten(1), (views, count + 1)
    columns, rows = (torch.arange(size, device=objects.device) for size in (width, height))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    bounds = []
    for pixels, position in ((width, x), (height, y)):
        position = position.reshape(1, -1).expand(views, -1)
        low = position.new_full(shape, pixels).scatter_reduce(1, numbers, position, "amin")
        high = position.new_zeros(shape).scatter_reduce(1, numbers, position + 1, "amax")
        bounds.append((low, high))
    (x1, x2), (y1, y2) = bounds
    return torch.stack([x1, y1, x2, y2], dim=-1).float()


@full_precision
def mask_loss(logits: Tensor, share: Tensor) -> Tensor:
    """Computes the quality focal loss (arXiv:2006.04388, equation 2) with exponent 2.

    Args:
        logits: (V, K, h, w).
        share: (V, K, h, w) share of the pixels of a cell that belong to the class.

    Returns:
        The sum over all cells, divided by the sum of ``share``, at least 1.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, share, reduction="none")
    return (entropy * (share - logits.sigmoid()).square()).sum() / share.sum().clamp(min=1)


@full_precision
def box_loss(log_distances: Tensor, objects: Tensor, boxes: Tensor, stride: int) -> Tensor:
    """Computes the mean GIoU loss (arXiv:1902.09630) over the cells with an object at the centre.

    Args:
        log_distances: (V, 4, h, w) log of the distances from the centre of the cell to the left,
            upper, right and lower side of the box, in strides.
        objects: (V, H, W) number of the object at each pixel, 0 for the background.
        boxes: (V, M + 1, 4) boxes of the objects 0 .. M, pixels.
        stride: side of a cell, pixels.

    Returns:
        A scalar; 0 if no cell has an object at its centre.
    """
    number = objects[:, stride // 2 :: stride, stride // 2 :: stride].long()
    view, row, column = number.nonzero(as_tuple=True)
    center = torch.stack([column, row], dim=1).float() * stride + stride / 2
    distances = log_distances.permute(0, 2, 3, 1)[view, row, column]
    distances = distances.clamp(max=_MAX_LOG_DISTANCE).exp() * stride
    predicted = torch.cat([center - distances[:, :2], center + distances[:, 2:]], dim=1)
    target = boxes[view, number[view, row, column]]
    return giou_loss(predicted, target, reduction="sum") / max(len(view), 1)
