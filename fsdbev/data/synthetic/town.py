"""Where scenes lie in the global frame, and the map masks: a town holds nine streets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .trajectory import rotation_z
from .world import World

_SIDE = 3
_FIRST, _PITCH = 260.0, 240.0
#: The devkit's map masks hold 10 pixels a metre; global (0, 0) is their lower left corner.
_PIXELS_PER_METRE = 10
_MASK_SIZE = 1000
_MARGIN = 30.0


@dataclass(frozen=True)
class TownSlot:
    """One of the nine places of a town: ``name`` of the town, ``place`` 0..8."""

    name: str
    place: int

    @staticmethod
    def of(split: str, index: int) -> TownSlot:
        """Scenes of a split fill one town after the other."""
        return TownSlot(f"{split.replace('_', '-')}-{index // _SIDE**2}", index % _SIDE**2)

    def street2global(self, world: World) -> np.ndarray:
        """(4, 4) float64: the middle of the world's street comes to the middle of the place; each
        place turns its street differently."""
        row, column = divmod(self.place, _SIDE)
        middle = np.array((_FIRST + _PITCH * column, _FIRST + _PITCH * row))
        x, y, heading = world.street.road.pose(sum(world.span) / 2, 0.0)
        pose = np.eye(4)
        pose[:3, :3] = rotation_z(0.7 * self.place + 0.35 - float(heading))
        pose[:2, 3] = middle - pose[:2, :2] @ (float(x), float(y))
        return pose

    def outline(self, world: World) -> list[np.ndarray]:
        """(n, 2) global polygons of the world's road and sidewalks, metres."""
        pose = self.street2global(world)
        polygons = world.street.outline(world.span[0] - _MARGIN, world.span[1] + _MARGIN)
        return [polygon @ pose[:2, :2].T + pose[:2, 3] for polygon in polygons]


def write_mask(polygons: list[np.ndarray], path: str) -> None:
    """The semantic prior of a town as the devkit reads it: 255 on road and sidewalk, else 0."""
    size = _MASK_SIZE * _PIXELS_PER_METRE
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    for polygon in polygons:
        pixels = polygon * _PIXELS_PER_METRE
        pixels[:, 1] = size - pixels[:, 1]
        draw.polygon([tuple(p) for p in pixels], fill=255)
    mask.save(path, compress_level=1)
