"""Scenery, which is not annotated: buildings behind the yards, trees and lamp posts beside the
sidewalks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .catalog import category_index
from .parts import WINDOWS, Color, Parts, ShapeBuilder
from .street import BUILDING_LINE, KERB, SIDEWALK_EDGE, Street
from .trajectory import LineMotion, rotation_z

#: Metres by which scenery extends beyond both ends of the section with objects.
_EXTENSION = 35.0
#: Metres between trees or lamp posts along the road.
_SPACING = 13.0
#: Minimum distance in metres between scenery and the side street.
_SIDE_STREET_GAP = 1.5
#: Diameters in metres of a tree crown and of the footprint reserved for a lamp post.
_CROWN, _POST_FOOTPRINT = 2.8, 0.5
_WALLS = ((0.62, 0.50, 0.42), (0.72, 0.68, 0.60), (0.55, 0.56, 0.58), (0.66, 0.42, 0.34))


@dataclass(frozen=True)
class Place:
    """A square of ``extent`` metres that scenery occupies; ``stand`` is its pose."""

    stand: LineMotion
    extent: float


@dataclass(frozen=True)
class Scenery:
    """Boxes of the scenery in the street frame, and the places occupied by trees and posts."""

    parts: Parts
    places: list[Place]


@dataclass
class _Collector:
    """Scenery along a street while it is drawn."""

    street: Street
    parts: list[Parts] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def add(self, shape: Parts, s: float, lateral: float, yaw: float, extent: float = 0.0) -> None:
        """Places a shape at road coordinates and reserves its footprint.

        Args:
            shape: boxes with the origin on the ground.
            s, lateral: road coordinates, metres.
            yaw: angle from the heading of the road, rad.
            extent: side of the footprint, metres; 0 reserves none.
        """
        x, y, heading = (float(v) for v in self.street.road.pose(s, lateral))
        self.parts.append(shape.moved(rotation_z(heading + yaw), np.array((x, y, 0.0))))
        if extent:
            self.places.append(Place(LineMotion(x, y, heading + yaw), extent))


def draw_scenery(street: Street, span: tuple[float, float], rng: np.random.Generator) -> Scenery:
    """Draws the scenery of a street.

    Args:
        street: street along which scenery is placed.
        span: section of the road with objects, (start, end) in metres along the centre line.
        rng: random generator.
    """
    start, stop = span[0] - _EXTENSION, span[1] + _EXTENSION
    collector = _Collector(street)
    for side in (-1.0, 1.0):
        _add_buildings(collector, side, start, stop, rng)
        _add_trees_and_posts(collector, side, start, stop, rng)
    return Scenery(Parts.concatenate(collector.parts), collector.places)


def _add_buildings(
    collector: _Collector, side: float, start: float, stop: float, rng: np.random.Generator
) -> None:
    """Adds a row of buildings on one side, with a gap at the side street."""
    s = start
    while s < stop:
        length = rng.uniform(12.0, 24.0)
        size = (length * 0.94, rng.uniform(8.0, 14.0), rng.uniform(5.0, 18.0))
        lateral = side * (BUILDING_LINE + size[1] / 2 + rng.uniform(0.0, 4.0))
        # Buildings reserve no footprint: objects are placed on the road side of BUILDING_LINE.
        if not collector.street.is_crossed(s, s + length, _SIDE_STREET_GAP):
            collector.add(_building(size, rng), s + length / 2, lateral, 0.0)
        s += length


def _add_trees_and_posts(
    collector: _Collector, side: float, start: float, stop: float, rng: np.random.Generator
) -> None:
    """Adds trees and lamp posts at regular distances on one side."""
    for s in np.arange(start, stop, _SPACING) + rng.uniform(0.0, _SPACING):
        if collector.street.is_crossed(s - _CROWN / 2, s + _CROWN / 2, _SIDE_STREET_GAP):
            continue
        if rng.uniform() < 0.6:
            lateral = side * (SIDEWALK_EDGE + 0.8 + rng.uniform(0.0, 1.0))
            collector.add(_tree(rng), s, lateral, rng.uniform(0.0, 1.5), _CROWN)
        else:
            # The arm of the post, along its x axis, points to the road.
            collector.add(_lamp_post(), s, side * (KERB + 0.5), -side * np.pi / 2, _POST_FOOTPRINT)


def _building(size: tuple[float, float, float], rng: np.random.Generator) -> Parts:
    """Draws a building of (length, width, height) in metres."""
    wall = _shaded(_WALLS[int(rng.integers(len(_WALLS)))], rng.uniform(0.85, 1.15))
    glass, scale = (0.28, 0.33, 0.40), float(rng.uniform(2.4, 3.4))
    builder = ShapeBuilder(size, margin=0.0)
    builder.box((-1, 1), (-1, 1), (0, 1), wall, pattern=WINDOWS, color2=glass, scale=scale)
    return builder.build(owner=-1, label=category_index("static.manmade"))


def _tree(rng: np.random.Generator) -> Parts:
    """Draws a tree."""
    height = rng.uniform(4.5, 7.0)
    green = _shaded((0.16, 0.36, 0.12), rng.uniform(0.8, 1.3))
    builder = ShapeBuilder((_CROWN, _CROWN, height), margin=0.0)
    builder.box((-0.08, 0.08), (-0.08, 0.08), (0.0, 0.5), (0.30, 0.22, 0.15))
    builder.box((-0.7, 0.7), (-1.0, 1.0), (0.45, 0.85), green)
    builder.box((-1.0, 1.0), (-0.7, 0.7), (0.50, 0.80), _shaded(green, 0.9))
    builder.box((-0.6, 0.6), (-0.6, 0.6), (0.80, 1.0), _shaded(green, 1.1))
    return builder.build(owner=-1, label=category_index("static.vegetation"))


def _lamp_post() -> Parts:
    """Returns a lamp post with its arm along x."""
    gray = (0.35, 0.36, 0.38)
    builder = ShapeBuilder((2.4, 0.4, 6.5), margin=0.0)
    builder.box((-0.06, 0.06), (-0.35, 0.35), (0.0, 1.0), gray)
    builder.box((0.06, 1.0), (-0.3, 0.3), (0.975, 1.0), gray)
    return builder.build(owner=-1, label=category_index("static.manmade"))


def _shaded(color: Color, level: float) -> Color:
    """Scales the brightness of a colour."""
    red, green, blue = (float(v) for v in np.clip(np.array(color) * level, 0.0, 1.0))
    return red, green, blue
