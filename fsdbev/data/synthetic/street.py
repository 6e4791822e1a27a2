"""The street's cross section: what covers the ground where, in road coordinates (s, l), metres."""

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
CROSSING_HALF_WIDTH = 5.0

ROAD, SIDEWALK, TERRAIN = range(3)
_LABELS = np.array(
    [category_index(f"flat.{name}") for name in ("driveable_surface", "sidewalk", "terrain")],
    dtype=np.uint8,
)
_ASPHALT, _PAVEMENT, _GRASS = (0.33, 0.33, 0.35), (0.60, 0.58, 0.55), (0.34, 0.45, 0.22)
_MARKING, _CENTER_LINE, _KERB_STONE = (0.88, 0.88, 0.86), (0.85, 0.68, 0.15), (0.74, 0.73, 0.70)


@dataclass(frozen=True)
class Street:
    """A road with lanes, cycle lanes, parking lanes and sidewalks on both sides; at ``crossing``
    (s in metres, or None) a side street crosses it. ``grain`` is an (n, n) noise tile in -1..1, n
    a power of two."""

    road: Road
    crossing: float | None
    grain: np.ndarray

    def is_crossed(self, start: float, stop: float, margin: float) -> bool:
        """Whether the side street, ``margin`` metres wider on each side, runs between s = start and
        s = stop."""
        if self.crossing is None:
            return False
        reach = CROSSING_HALF_WIDTH + margin
        return start < self.crossing + reach and stop > self.crossing - reach

    def zones(self, s: np.ndarray, lateral: np.ndarray) -> np.ndarray:
        """ROAD, SIDEWALK or TERRAIN (int8) at road coordinates."""
        away = np.abs(lateral)
        zone = np.where(away < KERB, ROAD, np.where(away < SIDEWALK_EDGE, SIDEWALK, TERRAIN))
        if self.crossing is not None:
            zone = np.where(np.abs(s - self.crossing) < CROSSING_HALF_WIDTH, ROAD, zone)
        return zone.astype(np.int8)

    def labels(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """lidarseg class (uint8) of the ground at street coordinates."""
        return _LABELS[self.zones(*self.road.coordinates(x, y))]

    def colors(self, x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """(n,) float32 street coordinates -> (n, 3) float32 RGB of the ground; its grain fades
        with the distance (m) it is seen from."""
        s, lateral = self.road.coordinates(x, y)
        zone = self.zones(s, lateral)
        color = np.array((_ASPHALT, _PAVEMENT, _GRASS), dtype=np.float32)[zone]
        self._paint(color, s, lateral, zone)
        size = len(self.grain) - 1
        fine = self.grain[(s * 9).astype(np.int32) & size, (lateral * 9).astype(np.int32) & size]
        coarse = self.grain[
            (s * 0.7).astype(np.int32) & size, (lateral * 0.7).astype(np.int32) & size
        ]
        roughness = np.array((0.05, 0.06, 0.14), dtype=np.float32)[zone]
        roughness *= np.minimum(1.0, 14.0 / distance)
        color *= (1 + roughness * (fine + 0.6 * coarse))[:, None]
        return color

    def _paint(
        self, color: np.ndarray, s: np.ndarray, lateral: np.ndarray, zone: np.ndarray
    ) -> None:
        """Draws lane markings, kerb stones, pavement joints and the zebra into ``color``."""
        away = np.abs(lateral)
        near_crossing = np.zeros(len(s), dtype=bool)
        if self.crossing is not None:
            gap = np.abs(s - self.crossing) - CROSSING_HALF_WIDTH
            near_crossing = gap < 3.0
            zebra = (gap > 0.5) & (gap < 2.7) & (away < KERB) & (lateral % 1.2 < 0.6)
            color[zebra] = _MARKING
        along = ~near_crossing
        color[along & (away < 0.10)] = _CENTER_LINE
        color[along & (np.abs(away - CYCLE_EDGE) < 0.07)] = _MARKING
        color[along & (np.abs(away - LANE_EDGE) < 0.08) & (s % 4.0 < 2.2)] = _MARKING
        color[(away > KERB - 0.15) & (away < KERB + 0.15) & (zone == SIDEWALK)] = _KERB_STONE
        joint = (zone == SIDEWALK) & ((s % 1.5 < 0.06) | (lateral % 1.5 < 0.06))
        color[joint] *= 0.8

    def outline(self, start: float, stop: float) -> list[np.ndarray]:
        """Polygons (n, 2) in street coordinates that cover road and sidewalks from s = start to
        stop, and the side street: the semantic prior of the map."""
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
