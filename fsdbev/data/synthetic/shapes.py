"""Shapes of the ten classes: a few boxes that fill the annotation box.

The functions in ``SHAPES`` have a common signature: a ShapeBuilder of the object's size, a random
generator for colours and variants, and the keywords ``ridden``, ``moving`` and ``worker``, of which
every class uses those that apply to it. Coordinates are fractions, see ShapeBuilder.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .parts import DIAGONAL, STRIPES, WINDOWS, Color, ShapeBuilder

_TYRE: Color = (0.07, 0.07, 0.08)
_GLASS: Color = (0.13, 0.17, 0.22)
_METAL: Color = (0.45, 0.46, 0.48)
_LAMP: Color = (1.0, 0.97, 0.80)
_TAIL: Color = (0.75, 0.05, 0.05)
_WHITE: Color = (0.93, 0.93, 0.92)
_RED: Color = (0.85, 0.08, 0.08)

# Every class has its own hue, so that a small network learns to separate the classes in minutes.
_CAR_COLORS = ((0.08, 0.18, 0.72), (0.14, 0.32, 0.85), (0.30, 0.48, 0.92))
_TRUCK_COLORS = ((0.72, 0.08, 0.08), (0.60, 0.10, 0.08), (0.82, 0.14, 0.10))
_BUS_COLORS = ((0.08, 0.55, 0.22), (0.12, 0.66, 0.30), (0.20, 0.60, 0.15))
_TRAILER_COLORS = ((0.90, 0.91, 0.94), (0.84, 0.86, 0.92), (0.95, 0.95, 0.92))
_CONSTRUCTION_COLORS = ((0.97, 0.80, 0.05), (0.95, 0.74, 0.05), (0.98, 0.86, 0.15))
_MOTORCYCLE_COLORS = ((0.42, 0.08, 0.55), (0.52, 0.12, 0.66), (0.34, 0.10, 0.48))
_BICYCLE_COLORS = ((0.05, 0.78, 0.80), (0.10, 0.86, 0.76), (0.15, 0.74, 0.88))
_PEDESTRIAN_COLORS = ((0.92, 0.20, 0.58), (0.96, 0.36, 0.68), (0.84, 0.14, 0.50))
_TROUSERS = ((0.12, 0.14, 0.25), (0.10, 0.10, 0.12), (0.30, 0.26, 0.24))
_SKINS = ((0.96, 0.80, 0.69), (0.80, 0.58, 0.44), (0.50, 0.33, 0.24))


def _draw_color(colors: tuple[Color, ...], rng: np.random.Generator) -> Color:
    """Draws one of the colours and varies its brightness."""
    base = np.array(colors[int(rng.integers(len(colors)))])
    return tuple(float(v) for v in np.clip(base * rng.uniform(0.88, 1.1), 0.0, 1.0))


def _wheels(shape: ShapeBuilder, axles: tuple[float, ...], radius: float, top: float) -> None:
    """Adds a pair of tyres at each axle; they protrude from a body whose sides are at y +-0.96."""
    for x in axles:
        for side in (-0.985, 0.705):
            shape.box((x - radius, x + radius), (side, side + 0.28), (0.0, top), _TYRE)


def car(shape: ShapeBuilder, rng: np.random.Generator, **_: bool) -> None:
    """Builds a saloon or a hatchback."""
    paint = _draw_color(_CAR_COLORS, rng)
    shape.box((-0.985, 0.985), (-0.96, 0.96), (0.14, 0.54), paint)
    shape.box((-0.97, 0.97), (-1, 1), (0.40, 0.56), paint)
    hatch = rng.uniform() < 0.4
    rear, front = (-0.97, 0.34) if hatch else (-0.66, 0.30)
    shape.box((rear, front), (-0.86, 0.86), (0.56, 0.94), _GLASS)
    shape.box((rear + 0.10, front - 0.16), (-0.87, 0.87), (0.92, 1.0), paint)
    for x in (rear + 0.04, (rear + front) / 2, front - 0.09):
        shape.box((x, x + 0.05), (-0.88, 0.88), (0.56, 0.95), paint)
    _wheels(shape, (-0.60, 0.62), 0.15, 0.38)
    for y in (-0.92, 0.58):
        shape.box((0.96, 1.0), (y, y + 0.34), (0.36, 0.48), _LAMP)
        shape.box((-1.0, -0.96), (y, y + 0.34), (0.38, 0.52), _TAIL)


def truck(shape: ShapeBuilder, rng: np.random.Generator, **_: bool) -> None:
    """Builds a box truck."""
    cab, cargo = _draw_color(_TRUCK_COLORS, rng), _draw_color(_TRUCK_COLORS, rng)
    shape.box((-0.99, 0.94), (-0.6, 0.6), (0.14, 0.34), (0.16, 0.16, 0.17))
    shape.box((-0.985, 0.42), (-1, 1), (0.33, 1.0), cargo)
    shape.box((0.48, 0.985), (-0.94, 0.94), (0.16, 0.80), cab)
    shape.box((0.84, 1.0), (-0.84, 0.84), (0.48, 0.74), _GLASS)
    shape.box((0.64, 0.84), (-0.96, 0.96), (0.48, 0.72), _GLASS)
    _wheels(shape, (-0.62, 0.70), 0.14, 0.32)
    for y in (-0.86, 0.58):
        shape.box((0.975, 1.0), (y, y + 0.28), (0.22, 0.30), _LAMP)
        shape.box((-1.0, -0.98), (y, y + 0.28), (0.33, 0.40), _TAIL)


def bus(shape: ShapeBuilder, rng: np.random.Generator, **_: bool) -> None:
    """Builds a city bus."""
    paint = _draw_color(_BUS_COLORS, rng)
    shape.box((-0.985, 0.985), (-0.97, 0.97), (0.09, 0.97), paint)
    shape.box((-0.9, 0.86), (-1, 1), (0.48, 0.80), paint, pattern=WINDOWS, color2=_GLASS, scale=1.4)
    shape.box((-0.96, 0.96), (-0.985, 0.985), (0.36, 0.42), _WHITE)
    shape.box((0.975, 1.0), (-0.88, 0.88), (0.40, 0.84), _GLASS)
    shape.box((-1.0, -0.975), (-0.7, 0.7), (0.52, 0.80), _GLASS)
    shape.box((0.975, 0.995), (-0.6, 0.6), (0.86, 0.95), (1.0, 0.75, 0.20))
    shape.box((-0.5, 0.1), (-0.6, 0.6), (0.97, 1.0), (0.80, 0.80, 0.80))
    _wheels(shape, (-0.55, 0.62), 0.09, 0.27)
    for y in (-0.9, 0.62):
        shape.box((0.975, 0.995), (y, y + 0.28), (0.16, 0.24), _LAMP)
        shape.box((-0.995, -0.975), (y, y + 0.28), (0.20, 0.30), _TAIL)


def trailer(shape: ShapeBuilder, rng: np.random.Generator, **_: bool) -> None:
    """Builds a ribbed box trailer with three axles."""
    side = _draw_color(_TRAILER_COLORS, rng)
    rib = tuple(0.82 * v for v in side)
    shape.box((-0.985, 1), (-1, 1), (0.30, 1.0), side, pattern=STRIPES, color2=rib, scale=0.9)
    shape.box((-0.98, 0.98), (-1, 1), (0.26, 0.30), _RED, pattern=STRIPES, color2=_WHITE, scale=0.8)
    shape.box((-0.98, 0.6), (-0.5, 0.5), (0.18, 0.26), (0.15, 0.15, 0.16))
    for x in (0.50, 0.56):
        shape.box((x, x + 0.02), (-0.6, -0.5), (0.0, 0.26), _METAL)
        shape.box((x, x + 0.02), (0.5, 0.6), (0.0, 0.26), _METAL)
    _wheels(shape, (-0.82, -0.62, -0.42), 0.085, 0.25)
    for y in (-0.9, 0.6):
        shape.box((-1.0, -0.975), (y, y + 0.3), (0.30, 0.36), _TAIL)


def construction_vehicle(shape: ShapeBuilder, rng: np.random.Generator, **_: bool) -> None:
    """Builds an excavator or a wheel loader."""
    paint = _draw_color(_CONSTRUCTION_COLORS, rng)
    if rng.uniform() < 0.6:
        _excavator(shape, paint)
    else:
        _loader(shape, paint)


def _excavator(shape: ShapeBuilder, paint: Color) -> None:
    for y in (-1.0, 0.62):
        shape.box((-0.92, 0.34), (y, y + 0.38), (0.0, 0.26), (0.12, 0.12, 0.12))
    shape.box((-0.6, 0.05), (-0.5, 0.5), (0.2, 0.3), (0.25, 0.25, 0.25))
    shape.box((-1.0, 0.14), (-0.92, 0.92), (0.30, 0.56), paint)
    shape.box((-0.36, 0.14), (0.10, 0.92), (0.56, 0.90), paint)
    shape.box((-0.30, 0.15), (0.14, 0.94), (0.62, 0.84), _GLASS)
    shape.beam((0.05, -0.2, 0.50), (0.42, -0.2, 0.92), (0.30, 0.28), paint)
    shape.beam((0.40, -0.2, 0.92), (0.86, -0.2, 0.40), (0.24, 0.24), paint)
    shape.box((0.39, 0.45), (-0.25, -0.15), (0.90, 1.0), (0.2, 0.2, 0.2))
    shape.box((0.70, 1.0), (-0.55, 0.15), (0.10, 0.38), (0.30, 0.30, 0.30))


def _loader(shape: ShapeBuilder, paint: Color) -> None:
    _wheels(shape, (-0.62, 0.24), 0.22, 0.42)
    shape.box((-1.0, -0.20), (-0.72, 0.72), (0.24, 0.58), paint)
    shape.box((-0.22, 0.42), (-0.55, 0.55), (0.22, 0.42), paint)
    shape.box((-0.36, 0.10), (-0.55, 0.55), (0.58, 0.96), _GLASS)
    shape.box((-0.40, 0.14), (-0.60, 0.60), (0.94, 1.0), paint)
    for y in (-0.45, 0.45):
        shape.beam((0.1, y, 0.48), (0.72, y, 0.24), (0.22, 0.16), paint)
    shape.box((0.66, 1.0), (-1.0, 1.0), (0.04, 0.36), paint)


def barrier(shape: ShapeBuilder, rng: np.random.Generator, **_: bool) -> None:
    """Builds a red and white barrier."""
    first, second = (_RED, _WHITE) if rng.uniform() < 0.75 else (_WHITE, _RED)
    for y in (-0.86, 0.62):
        shape.box((-1, 1), (y, y + 0.24), (0.0, 0.14), (0.20, 0.20, 0.20))
    shape.box((-0.7, 0.7), (-0.99, 0.99), (0.10, 0.40), first)
    stripes = {"pattern": DIAGONAL, "color2": second, "scale": 0.62}
    shape.box((-0.5, 0.5), (-1, 1), (0.38, 1.0), first, **stripes)


def motorcycle(shape: ShapeBuilder, rng: np.random.Generator, *, ridden: bool, **_: bool) -> None:
    """Builds a motorcycle, with a rider if it is ridden."""
    # The annotation box of a ridden two-wheeler includes the rider, so the machine is lower in it.
    top = 0.78 if ridden else 1.0
    paint = _draw_color(_MOTORCYCLE_COLORS, rng)
    for x in (-0.68, 0.68):
        shape.box((x - 0.32, x + 0.32), (-0.18, 0.18), (0.10 * top, 0.40 * top), _TYRE)
        shape.box((x - 0.20, x + 0.20), (-0.18, 0.18), (0.0, 0.50 * top), _TYRE)
    shape.box((-0.45, 0.45), (-0.30, 0.30), (0.18 * top, 0.52 * top), (0.22, 0.22, 0.24))
    shape.box((-0.15, 0.42), (-0.36, 0.36), (0.50 * top, 0.72 * top), paint)
    shape.box((-0.92, -0.10), (-0.32, 0.32), (0.52 * top, 0.64 * top), (0.10, 0.10, 0.10))
    shape.beam((0.68, 0, 0.25 * top), (0.45, 0, 0.85 * top), (0.07, 0.10), _METAL)
    shape.box((0.38, 0.46), (-1, 1), (0.84 * top, 0.90 * top), (0.15, 0.15, 0.15))
    shape.box((0.46, 0.62), (-0.28, 0.28), (0.66 * top, 0.84 * top), _LAMP)
    if ridden:
        _rider(shape, rng, paint, seat=(-0.25, 0.50), hands=(0.40, 0.68), helmet=True)
    else:
        shape.box((0.30, 0.42), (-0.95, -0.80), (0.88, 1.0), _METAL)
        shape.box((0.30, 0.42), (0.80, 0.95), (0.88, 1.0), _METAL)


def bicycle(shape: ShapeBuilder, rng: np.random.Generator, *, ridden: bool, **_: bool) -> None:
    """Builds a bicycle, with a rider if it is ridden."""
    top = 0.63 if ridden else 1.0
    paint = _draw_color(_BICYCLE_COLORS, rng)
    for x in (-0.62, 0.62):
        _spoked_wheel(shape, x, 0.37, 0.31 * top)
    hub, seat, head = (-0.62, 0, 0.31 * top), (-0.22, 0, 0.80 * top), (0.42, 0, 0.82 * top)
    crank, front = (-0.10, 0, 0.30 * top), (0.62, 0, 0.31 * top)
    for start, end in ((hub, crank), (hub, seat), (crank, seat), (crank, head), (seat, head)):
        shape.beam(start, end, (0.055, 0.055), paint)
    shape.beam(front, (0.40, 0, 0.95 * top), (0.05, 0.05), paint)
    shape.box((0.34, 0.42), (-1, 1), (0.94 * top, top), (0.12, 0.12, 0.12))
    shape.box((-0.38, -0.10), (-0.22, 0.22), (0.82 * top, 0.90 * top), (0.10, 0.10, 0.10))
    if ridden:
        helmet = rng.uniform() < 0.5
        _rider(shape, rng, paint, seat=(-0.26, 0.55), hands=(0.36, 0.62), helmet=helmet)


def _spoked_wheel(shape: ShapeBuilder, x: float, reach: float, middle: float) -> None:
    """Adds an open ring of eight beams whose outer edge is at x +- reach and z 0 .. 2 middle."""
    angles = np.pi / 8 + np.arange(9) * np.pi / 4
    # The axes of the beams are inside the rim, which their outer faces reach.
    inner = 0.93
    rim = [(x + reach * inner * np.cos(a), 0.0, middle * (1 + inner * np.sin(a))) for a in angles]
    for start, end in zip(rim[:-1], rim[1:], strict=True):
        shape.beam(start, end, (0.05, 0.05), _TYRE)


def _rider(
    shape: ShapeBuilder,
    rng: np.random.Generator,
    shirt: Color,
    *,
    seat: tuple[float, float],
    hands: tuple[float, float],
    helmet: bool,
) -> None:
    """Adds a rider; ``seat`` and ``hands`` are (x, z) positions."""
    trousers, skin = _draw_color(_TROUSERS, rng), _draw_color(_SKINS, rng)
    x, z = seat
    for y in (-0.45, 0.45):
        shape.beam((x, y * 0.6, z), (x + 0.28, y, 0.42), (0.14, 0.13), trousers)
        shape.beam((x + 0.27, y, 0.44), (x + 0.12, y, 0.14), (0.11, 0.11), trousers)
        shape.beam((x + 0.22, y, 0.80), (hands[0], y * 1.5, hands[1]), (0.09, 0.09), shirt)
    shape.beam((x, 0, z), (x + 0.22, 0, 0.86), (0.24, 0.40), shirt)
    crown = _draw_color((_RED, _WHITE, (0.1, 0.1, 0.1)), rng) if helmet else (0.20, 0.13, 0.08)
    shape.box((x + 0.14, x + 0.40), (-0.30, 0.30), (0.86, 0.95), skin)
    shape.box((x + 0.12, x + 0.42), (-0.34, 0.34), (0.93, 1.0), crown)


def pedestrian(
    shape: ShapeBuilder, rng: np.random.Generator, *, moving: bool, worker: bool, **_: bool
) -> None:
    """Builds a standing or walking pedestrian; workers wear a helmet and a reflective stripe."""
    shirt, trousers = _draw_color(_PEDESTRIAN_COLORS, rng), _draw_color(_TROUSERS, rng)
    skin = _draw_color(_SKINS, rng)
    # Limbs scale with the height: children have thinner ones.
    leg, arm = ((0.09 * shape.size[2], width * shape.size[2]) for width in (0.09, 0.05))
    stride, shoe_span = (0.78, (-0.22, 0.22)) if moving else (0.0, (-0.75, 1.0))
    back, chest = (-0.34, 0.34) if moving else (-1.0, 0.85)
    for y, swing in ((-0.32, stride), (0.32, -stride)):
        side = np.sign(y)
        shape.beam((0, y, 0.48), (0.9 * swing, y, 0.06), leg, trousers)
        shoe = (swing + shoe_span[0], swing + shoe_span[1])
        shape.box(shoe, (y - 0.2, y + 0.2), (0.0, 0.05), (0.10, 0.08, 0.08))
        shape.beam((0, side * 0.78, 0.82), (-0.7 * swing, side * 0.80, 0.46), arm, shirt)
        shape.box((-0.14, 0.14), (0.78 * side, side), (0.72, 0.83), shirt)
    shape.box((back, chest), (-0.62, 0.62), (0.46, 0.84), shirt)
    if worker:
        shape.box((back, chest), (-0.64, 0.64), (0.60, 0.66), (0.95, 0.95, 0.30))
    shape.box((back, chest), (-0.30, 0.30), (0.86, 0.97), skin)
    hair = (0.98, 0.85, 0.10) if worker else _draw_color(((0.1, 0.07, 0.05), (0.35, 0.2, 0.1)), rng)
    shape.box((back, 0.8 * chest), (-0.33, 0.33), (0.94, 1.0), hair)


def traffic_cone(shape: ShapeBuilder, rng: np.random.Generator, **_: bool) -> None:
    """Builds a cone of stacked layers with two white rings."""
    orange = _draw_color(((1.0, 0.42, 0.05), (1.0, 0.50, 0.08)), rng)
    shape.box((-1, 1), (-1, 1), (0.0, 0.07), tuple(0.7 * v for v in orange))
    layers = 8
    for i in range(layers):
        low, high = 0.07 + 0.93 * i / layers, 0.07 + 0.93 * (i + 1) / layers
        reach = 0.72 - 0.58 * i / (layers - 1)
        shape.box((-reach, reach), (-reach, reach), (low, high), _WHITE if i in (3, 5) else orange)


#: Detection class -> function that adds its boxes to a ShapeBuilder.
SHAPES: dict[str, Callable[..., None]] = {
    "car": car,
    "truck": truck,
    "construction_vehicle": construction_vehicle,
    "bus": bus,
    "trailer": trailer,
    "barrier": barrier,
    "motorcycle": motorcycle,
    "bicycle": bicycle,
    "pedestrian": pedestrian,
    "traffic_cone": traffic_cone,
}
