"""Oriented boxes, the only geometric primitive of the world, and a builder of shapes from boxes.

Shapes: P parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from fsdbev.structures import Columns, box_corners

Color = tuple[float, float, float]
Span = tuple[float, float]

#: Surface patterns, which mix a part's second colour into its first. SHADOW darkens the ground.
PLAIN, STRIPES, DIAGONAL, WINDOWS, SHADOW = range(5)
#: Distance in metres between a shape and its annotation box. It exceeds the lidar noise
#: (``lidar._NOISE_LIMIT``), so that lidar points of the object are inside the box.
MARGIN = 0.02


@dataclass(frozen=True)
class Parts(Columns):
    """Oriented boxes as arrays.

    Attributes:
        center: (P, 3) box centres, metres.
        half: (P, 3) half extents along the part's own axes, metres.
        rotation: (P, 3, 3) part axes -> frame of ``center``.
        color, color2: (P, 3) RGB in 0..1.
        pattern: (P,) one of PLAIN, STRIPES, DIAGONAL, WINDOWS, SHADOW.
        scale: (P,) period of the pattern, metres.
        owner: (P,) index of the actor that the part belongs to, -1 for scenery.
        label: (P,) lidarseg index.
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
        """Returns the parts rotated, then shifted.

        Args:
            rotation: (3, 3) for all parts, or (P, 3, 3).
            translation: (3,) for all parts, or (P, 3), metres.
        """
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays["center"] = (rotation @ self.center[..., None])[..., 0] + translation
        arrays["rotation"] = rotation @ self.rotation
        return Parts(**arrays)

    def corners(self) -> np.ndarray:
        """Returns (P, 8, 3) corners in the order of :func:`fsdbev.structures.box_corners`."""
        return box_corners(self.center, 2 * self.half, self.rotation)


class ShapeBuilder:
    """Builder of a shape inside a bounding box whose bottom is centred on the origin.

    Coordinates are fractions of the bounding box shrunk by ``margin`` on each side: x in -1 (rear)
    .. 1 (front), y in -1 (right) .. 1 (left), z in 0 (bottom) .. 1 (top).

    Args:
        size: (length, width, height) of the bounding box, metres.
        margin: distance to the bounding box, metres.
    """

    def __init__(self, size: tuple[float, float, float], *, margin: float = MARGIN) -> None:
        self.size = size
        self._half = np.array(size) / 2 - margin
        self._middle = size[2] / 2
        self._rows: list[tuple] = []

    def _metres(self, point: Sequence[float]) -> np.ndarray:
        """Converts a point from fractions to metres."""
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
        """Adds an axis-aligned box.

        Args:
            x, y, z: (start, end) of the box in fractions.
            color, color2: RGB in 0..1.
            pattern: how ``color2`` is mixed into ``color``.
            scale: period of the pattern, metres.
        """
        low, high = self._metres((x[0], y[0], z[0])), self._metres((x[1], y[1], z[1]))
        row = ((low + high) / 2, np.abs(high - low) / 2, np.eye(3), color, color2, pattern, scale)
        self._rows.append(row)
        return self

    def beam(
        self, start: Sequence[float], end: Sequence[float], thickness: Span, color: Color
    ) -> ShapeBuilder:
        """Adds a box along the line between two points.

        Args:
            start, end: centres of the end faces in fractions.
            thickness: extents across the line, in its vertical plane and horizontally, metres.
            color: RGB in 0..1.
        """
        a, b = self._metres(start), self._metres(end)
        length = float(np.linalg.norm(b - a))
        along = (b - a) / length
        # A vertical axis needs another helper vector: its cross product with z would vanish.
        side = np.cross((0.0, 0.0, 1.0) if abs(along[2]) < 0.99 else (-1.0, 0.0, 0.0), along)
        side /= np.linalg.norm(side)
        rotation = np.stack([along, side, np.cross(along, side)], axis=1)
        half = np.array((length, thickness[1], thickness[0])) / 2
        self._rows.append(((a + b) / 2, half, rotation, color, color, PLAIN, 1.0))
        return self

    def build(self, *, owner: int, label: int) -> Parts:
        """Returns the boxes as arrays.

        Args:
            owner: index of the actor, -1 for scenery.
            label: lidarseg index.
        """
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
