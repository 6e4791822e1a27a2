"""Layout of scenes in the global frame, and map masks. A town has nine streets on a 3 x 3 grid.

Frames: street, see ``trajectory``; global, x right and y up on the map, metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .trajectory import rotation_z
from .world import World

_SIDE = 3
#: Global coordinate of the first place and distance between places, metres.
_FIRST, _PITCH = 260.0, 240.0
#: Resolution of the devkit's map masks, whose lower left corner is global (0, 0).
_PIXELS_PER_METRE = 10
#: Side of the mask, metres.
_MASK_SIZE = 1000
#: Metres by which the mask shows the road beyond the section with objects.
_MARGIN = 30.0


@dataclass(frozen=True)
class TownSlot:
    """One of the nine places of a town.

    Attributes:
        name: name of the town, which is the location in the log table.
        place: index 0..8 of the place, row by row.
    """

    name: str
    place: int

    @staticmethod
    def of(split: str, index: int) -> TownSlot:
        """Returns the place of a scene; the scenes of a split fill one town after the other."""
        return TownSlot(f"{split.replace('_', '-')}-{index // _SIDE**2}", index % _SIDE**2)

    def street2global(self, world: World) -> np.ndarray:
        """Returns the (4, 4) float64 pose of a world's street in the global frame.

        It moves the middle of the street to the middle of the place and rotates the street by an
        angle that depends on the place.
        """
        row, column = divmod(self.place, _SIDE)
        middle = np.array((_FIRST + _PITCH * column, _FIRST + _PITCH * row))
        x, y, heading = world.street.road.pose(sum(world.span) / 2, 0.0)
        pose = np.eye(4)
        pose[:3, :3] = rotation_z(0.7 * self.place + 0.35 - float(heading))
        pose[:2, 3] = middle - pose[:2, :2] @ (float(x), float(y))
        return pose

    def outline(self, world: World) -> list[np.ndarray]:
        """Returns (n, 2) polygons of the world's road and sidewalks, global frame, metres."""
        pose = self.street2global(world)
        polygons = world.street.outline(world.span[0] - _MARGIN, world.span[1] + _MARGIN)
        return [polygon @ pose[:2, :2].T + pose[:2, 3] for polygon in polygons]


def write_mask(polygons: list[np.ndarray], path: str) -> None:
    """Writes the semantic prior of a town as a PNG mask for the devkit.

    Args:
        polygons: (n, 2) polygons of roads and sidewalks, global frame, metres.
        path: file to write; 255 inside of the polygons, 0 outside.
    """
    size = _MASK_SIZE * _PIXELS_PER_METRE
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    for polygon in polygons:
        pixels = polygon * _PIXELS_PER_METRE
        # Image rows run downwards from the upper left corner.
        pixels[:, 1] = size - pixels[:, 1]
        draw.polygon([tuple(p) for p in pixels], fill=255)
    # 100 megapixels of two values: the fastest level compresses them well enough.
    mask.save(path, compress_level=1)
