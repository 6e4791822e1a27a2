"""Built-in ``detectron2.layers``: the description of a feature map."""

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """Shape of a feature map, as ``output_shape()`` of a backbone returns it; None is unknown.

    Attributes:
        channels: number of channels.
        height: height in cells.
        width: width in cells.
        stride: pixels of the input image per cell.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
