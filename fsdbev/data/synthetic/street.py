"""Ground of a street: its zones, lidarseg labels and colours.

Shapes: n points.

The constants are lateral distances from the centre line in metres, the same on both sides. Road
coordinates (s, lateral) are defined in ``trajectory``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .catalog import category_index
from .trajectory import Road

LANE_CENTER = 2.2
LANE_EDGE = 4.2
CYCLE_CENTER = 5.5
CYCLE_EDGE = 6.7
PARKING_CENTER = 8.2
KERB = 9.8
SIDEWALK_CENTER = 11.7
SIDEWALK_EDGE = 13.6
YARD_CENTER = 17.5
BUILDING_LINE = 24.0
#: Half width of the side street, along s.
CROSSING_HALF_WIDTH = 5.0

ROAD, SIDEWALK, TERRAIN = range(3)
#: Zone -> lidarseg index.
_LABELS = np.array(
    [category_index(f"flat.{name}") for name in ("driveable_surface", "sidewalk", "terrain")],
    dtype=np.uint8,
)
_ASPHALT, _PAVEMENT, _GRASS = (0.33, 0.33, 0.35), (0.60, 0.58, 0.55), (0.34, 0.45, 0.22)
_MARKING, _CENTER_LINE, _KERB_STONE = (0.88, 0.88, 0.86), (0.85, 0.68, 0.15), (0.74, 0.73, 0.70)


@dataclass(frozen=True)
class Street:
    """A road with lanes, cycle lanes, parking lanes and sidewalks on both sides.

    Attributes:
        road: centre line.
        crossing: s of the side street that crosses the road, metres; None without side street.
        grain: square noise tile in -1..1 for the texture; its side must be a power of two.
    """

    road: Road
    crossing: float | None
    grain: np.ndarray

    def is_crossed(self, start: float, stop: float, margin: float) -> bool:
        """Checks whether the side street, widened by ``margin`` metres on each side, intersects the
        section from s = start to s = stop."""
        if self.crossing is None:
            return False
        reach = CROSSING_HALF_WIDTH + margin
        return start < self.crossing + reach and stop > self.crossing - reach

    def zones(self, s: np.ndarray, lateral: np.ndarray) -> np.ndarray:
        """Returns ROAD, SIDEWALK or TERRAIN (int8) at road coordinates in metres."""
        distance = np.abs(lateral)
        zone = np.where(distance < SIDEWALK_EDGE, SIDEWALK, TERRAIN)
        zone = np.where(distance < KERB, ROAD, zone)
        if self.crossing is not None:
            zone = np.where(np.abs(s - self.crossing) < CROSSING_HALF_WIDTH, ROAD, zone)
        return zone.astype(np.int8)

    def labels(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Returns the lidarseg indices (uint8) of the ground at street coordinates in metres."""
        return _LABELS[self.zones(*self.road.coordinates(x, y))]

    def colors(self, x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Returns the (n, 3) float32 RGB of the ground, in 0..1 before lighting.

        Args:
            x, y: (n,) float32 street coordinates, metres.
            distance: (n,) depth in the camera, metres. The texture fades with it.
        """
        s, lateral = self.road.coordinates(x, y)
        zone = self.zones(s, lateral)
        color = np.array((_ASPHALT, _PAVEMENT, _GRASS), dtype=np.float32)[zone]
        self._paint(color, s, lateral, zone)
        # The side of the tile is a power of two: the mask repeats it, for negative cells as well.
        mask = len(self.grain) - 1
        fine = self.grain[(s * 9).astype(np.int32) & mask, (lateral * 9).astype(np.int32) & mask]
        coarse = self.grain[
            (s * 0.7).astype(np.int32) & mask, (lateral * 0.7).astype(np.int32) & mask
        ]
        roughness = np.array((0.05, 0.06, 0.14), dtype=np.float32)[zone]
        roughness *= np.minimum(1.0, 14.0 / distance)
        color *= (1 + roughness * (fine + 0.6 * coarse))[:, None]
        return color

    def _paint(
        self, color: np.ndarray, s: np.ndarray, lateral: np.ndarray, zone: np.ndarray
    ) -> None:
        """Paints markings, kerb stones, pavement joints and zebra crossings into ``color``."""
        distance = np.abs(lateral)
        near_crossing = np.zeros(len(s), dtype=bool)
        if self.crossing is not None:
            gap = np.abs(s - self.crossing) - CROSSING_HALF_WIDTH
            near_crossing = gap < 3.0
            zebra = (gap > 0.5) & (gap < 2.7) & (distance < KERB) & (lateral % 1.2 < 0.6)
            color[zebra] = _MARKING
        # Lines along the road end before the side street.
        marked = ~near_crossing
        color[marked & (distance < 0.10)] = _CENTER_LINE
        color[marked & (np.abs(distance - CYCLE_EDGE) < 0.07)] = _MARKING
        color[marked & (np.abs(distance - LANE_EDGE) < 0.08) & (s % 4.0 < 2.2)] = _MARKING
        kerb = (distance > KERB - 0.15) & (distance < KERB + 0.15)
        color[kerb & (zone == SIDEWALK)] = _KERB_STONE
        joint = (zone == SIDEWALK) & ((s % 1.5 < 0.06) | (lateral % 1.5 < 0.06))
        color[joint] *= 0.8

    def outline(self, start: float, stop: float) -> list[np.ndarray]:
        """Returns (n, 2) polygons in street coordinates, metres, for the semantic prior of the map.

        They cover the road with its sidewalks from s = start to s = stop, and the side street.
        """
        s = np.linspace(start, stop, 60)
        left = np.stack(self.road.pose(s, np.full_like(s, SIDEWALK_EDGE))[:2], axis=1)
        right = np.stack(self.road.pose(s, np.full_like(s, -SIDEWALK_EDGE))[:2], axis=1)
        polygons = [np.concatenate([left, right[::-1]])]
        if self.crossing is not None:
            half = CROSSING_HALF_WIDTH
            corner_s = self.crossing + np.array((-half, half, half, -half))
            corner_l = np.array((-60.0, -60.0, 60.0, 60.0))
            polygons.append(np.stack(self.road.pose(corner_s, corner_l)[:2], axis=1))
        return polygons
