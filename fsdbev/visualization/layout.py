"""Where the parts of a mosaic stand on its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Inches.
TITLE_HEIGHT, LEGEND_HEIGHT, GAP = 0.34, 0.42, 0.05
_MIN_CAMERAS_HEIGHT, _MAX_CAMERAS_HEIGHT, _MAX_CAMERAS_WIDTH = 3.9, 5.2, 14.0

#: Left, bottom, width, height in inches from the page's lower left.
Place = tuple[float, float, float, float]


@dataclass(frozen=True)
class MosaicLayout:
    """Places of the cameras' pictures, of the view from above beside them and of the texts.

    Attributes:
        cameras: a place each, in rows, of the pictures' own aspect ratios.
        cameras_width, cameras_height: of the block of cameras.
    """

    cameras: tuple[Place, ...]
    cameras_width: float
    cameras_height: float

    @classmethod
    def of(cls, aspects: Sequence[float]) -> MosaicLayout:
        """The number of rows that leaves least of the page empty.

        Args:
            aspects: width over height of each camera's picture; they fill rows in this order.
        """
        choices = [cls._in_rows(aspects, rows) for rows in range(1, len(aspects) + 1)]
        return max(choices, key=lambda layout: layout._share_used())

    @classmethod
    def _in_rows(cls, aspects: Sequence[float], rows: int) -> MosaicLayout:
        """Rows of one height and of as many cameras as can be, the last ones perhaps of fewer; each
        row in the middle."""
        columns = math.ceil(len(aspects) / rows)
        parts = [aspects[start : start + columns] for start in range(0, len(aspects), columns)]
        widest = max(parts, key=sum)
        height = min(
            (_MAX_CAMERAS_HEIGHT - (len(parts) - 1) * GAP) / len(parts),
            (_MAX_CAMERAS_WIDTH - (len(widest) - 1) * GAP) / sum(widest),
        )
        width = sum(widest) * height + (len(widest) - 1) * GAP
        block_height = len(parts) * (height + GAP) - GAP
        cameras_height = max(block_height, _MIN_CAMERAS_HEIGHT)
        top = LEGEND_HEIGHT + (cameras_height + block_height) / 2
        places = []
        for row, part in enumerate(parts):
            left = GAP + (width - sum(part) * height - (len(part) - 1) * GAP) / 2
            for aspect in part:
                bottom = top - row * (height + GAP) - height
                places.append((left, bottom, aspect * height, height))
                left += aspect * height + GAP
        return cls(tuple(places), width, cameras_height)

    def _share_used(self) -> float:
        """Pictures' share of the page."""
        pictures = sum(width * height for _, _, width, height in self.cameras)
        return pictures / (self.width * self.height)

    @property
    def height(self) -> float:
        return LEGEND_HEIGHT + self.cameras_height + TITLE_HEIGHT

    @property
    def width(self) -> float:
        return GAP + self.cameras_width + GAP + self.bev[2] + GAP

    @property
    def bev(self) -> Place:
        """The view from above: square, right of the cameras."""
        side = LEGEND_HEIGHT + self.cameras_height - GAP
        return (GAP + self.cameras_width + GAP, GAP, side, side)
