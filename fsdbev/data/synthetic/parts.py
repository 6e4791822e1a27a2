"""Oriented boxes, the one geometric primitive of the world, and a builder of shapes from them.

Shapes: P parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from fsdbev.structures import Columns, box_corners

Color = tuple[float, float, float]
Span = tuple[float, float]

#: Surface patterns: what mixes a part's second colour into its first.
PLAIN, STRIPES, DIAGONAL, WINDOWS, SHADOW = range(5)
#: The shape keeps this distance (m) from its annotation box, so that noisy points stay inside.
MARGIN = 0.02


@dataclass(frozen=True)
class Parts(Columns):
    """Boxes as arrays.

    Attributes:
        center: (P, 3) metres.
        half: (P, 3) half extents along the part's own axes, metres.
        rotation: (P, 3, 3) part axes -> frame of ``center``.
        color, color2: (P, 3) RGB in 0..1.
        pattern: (P,) one of PLAIN, STRIPES, DIAGONAL, WINDOWS, SHADOW.
        scale: (P,) period of the pattern, metres.
        owner: (P,) which object the part belongs to, -1 for scenery.
        label: (P,) lidarseg class index.
    """

    center: np.ndarray
    half: np.ndarray
    rotation: np.ndarray
    color: np.ndarray
    color2: np.ndarray
    pattern: np.ndarray
    scale: np.ndarray
    owner: np.ndarray
    label: np.ndarray

    def moved(self, rotation: np.ndarray, translation: np.ndarray) -> Parts:
        """The parts after one (3, 3) rotation, or (P, 3, 3) rotations, and (3,) or (P, 3) shift."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays["center"] = (rotation @ self.center[..., None])[..., 0] + translation
        arrays["rotation"] = rotation @ self.rotation
        return Parts(**arrays)

    def corners(self) -> np.ndarray:
        """(P, 8, 3) corners, ordered as by :func:`fsdbev.structures.box_corners`."""
        return box_corners(self.center, 2 * self.half, self.rotation)


class ShapeBuilder:
    """Collects boxes inside a bounding box of (length, width, height) that stands on z = 0.

    Coordinates are fractions: x in -1 (rear) .. 1 (front), y in -1 (right) .. 1 (left), z in
    0 .. 1, of the bounding box less ``MARGIN`` on each side.
    """

    def __init__(self, size: tuple[float, float, float], *, margin: float = MARGIN) -> None:
        self.size = size
        self._half = np.array(size) / 2 - margin
        self._middle = size[2] / 2
        self._rows: list[tuple] = []

    def _metres(self, point: Sequence[float]) -> np.ndarray:
        x, y, z = point
        local = np.array((x, y, 2 * z - 1)) * self._half
        return local + (0.0, 0.0, self._middle)

    def box(
        self,
        x: Span,
        y: Span,
        z: Span,
        color: Color,
        *,
        pattern: int = PLAIN,
        color2: Color = (1.0, 1.0, 1.0),
        scale: float = 1.0,
    ) -> ShapeBuilder:
        """An axis-aligned box over three spans of fractions; ``scale`` is in metres."""
        low, high = self._metres((x[0], y[0], z[0])), self._metres((x[1], y[1], z[1]))
        row = ((low + high) / 2, np.abs(high - low) / 2, np.eye(3), color, color2, pattern, scale)
        self._rows.append(row)
        return self

    def beam(
        self, start: Sequence[float], end: Sequence[float], thickness: Span, color: Color
    ) -> ShapeBuilder:
        """A box from one point to another (fractions) inside the symmetry plane or beside it;
        thickness (across, along y) in metres. Its ends stay where the points are."""
        a, b = self._metres(start), self._metres(end)
        length = float(np.linalg.norm(b - a))
        along = (b - a) / length
        side = np.cross((0.0, 0.0, 1.0) if abs(along[2]) < 0.99 else (-1.0, 0.0, 0.0), along)
        side /= np.linalg.norm(side)
        rotation = np.stack([along, side, np.cross(along, side)], axis=1)
        half = np.array((length, thickness[1], thickness[0])) / 2
        self._rows.append(((a + b) / 2, half, rotation, color, color, PLAIN, 1.0))
        return self

    def build(self, *, owner: int, label: int) -> Parts:
        """The collected boxes as arrays, all of one owner and lidarseg label."""
        center, half, rotation, color, color2, pattern, scale = (
            np.array(column) for column in zip(*self._rows, strict=True)
        )
        count = len(center)
        return Parts(
            center,
            half,
            rotation,
            color.astype(np.float32),
            color2.astype(np.float32),
            pattern.astype(np.int8),
            scale.astype(np.float32),
            np.full(count, owner, dtype=np.int32),
            np.full(count, label, dtype=np.uint8),
        )
