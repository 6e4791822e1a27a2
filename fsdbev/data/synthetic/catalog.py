"""Categories, attributes and visibility levels of nuScenes, and mean sizes of the ten classes."""

from __future__ import annotations

import numpy as np
from nuscenes.utils.color_map import get_colormap

from fsdbev.structures import NUSCENES_CLASSES

#: The 32 categories of nuScenes; the position is the category's index in nuScenes-lidarseg.
CATEGORIES = tuple(get_colormap())

ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)

#: Visibility token -> level.
VISIBILITY_LEVELS = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}
#: Visible fractions at which levels 2, 3 and 4 begin.
_VISIBILITY_BOUNDS = (0.4, 0.6, 0.8)

#: Mean (length, width, height) in metres, close to the means of nuScenes.
MEAN_SIZES = {
    "car": (4.6, 1.95, 1.70),
    "truck": (7.0, 2.50, 2.90),
    "construction_vehicle": (6.4, 2.80, 3.20),
    "bus": (10.8, 2.90, 3.45),
    "trailer": (10.0, 2.70, 3.60),
    "barrier": (0.50, 2.50, 1.00),
    "motorcycle": (2.10, 0.80, 1.25),
    "bicycle": (1.75, 0.60, 1.15),
    "pedestrian": (0.72, 0.66, 1.75),
    "traffic_cone": (0.42, 0.42, 1.02),
}
#: Mean height in metres of a two-wheeler with its rider: nuScenes boxes include the rider.
RIDDEN_HEIGHT = {"motorcycle": 1.62, "bicycle": 1.75}
#: Mean length in metres of a standing pedestrian; a stride makes walking pedestrians longer.
STANDING_LENGTH = 0.45

#: Mean number of radar points on an object that is visible, in worlds that count them.
RADAR_POINTS = {
    "car": 1.1,
    "truck": 2.2,
    "construction_vehicle": 1.9,
    "bus": 2.2,
    "trailer": 2.2,
    "barrier": 0.3,
    "motorcycle": 0.4,
    "bicycle": 0.25,
    "pedestrian": 0.22,
    "traffic_cone": 0.08,
}

_CATEGORY_OF_CLASS = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "construction_vehicle": "vehicle.construction",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "barrier": "movable_object.barrier",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "traffic_cone": "movable_object.trafficcone",
}
#: Category of a pedestrian -> probability.
PEDESTRIAN_CATEGORIES = {
    "human.pedestrian.adult": 0.75,
    "human.pedestrian.child": 0.12,
    "human.pedestrian.construction_worker": 0.13,
}
#: Speed in m/s above which an object counts as moving, the limit that decides attributes of
#: detections (docs/model.md, "Head, targets, decoding").
MOVING_SPEED = 0.2

if set(MEAN_SIZES) != set(NUSCENES_CLASSES.names):
    raise ValueError(
        f"MEAN_SIZES must have the classes {', '.join(NUSCENES_CLASSES.names)}, has "
        f"{', '.join(MEAN_SIZES)}"
    )


def category_index(name: str) -> int:
    """Returns the lidarseg index of a category."""
    return CATEGORIES.index(name)


def draw_category(class_name: str, rng: np.random.Generator) -> str:
    """Draws a nuScenes category that maps to the detection class."""
    if class_name == "pedestrian":
        names = tuple(PEDESTRIAN_CATEGORIES)
        return names[int(rng.choice(len(names), p=tuple(PEDESTRIAN_CATEGORIES.values())))]
    return _CATEGORY_OF_CLASS[class_name]


def draw_size(
    class_name: str, category: str, rng: np.random.Generator, *, ridden: bool, moving: bool
) -> tuple[float, float, float]:
    """Draws (length, width, height) in metres, rounded to millimetres.

    Each dimension varies by 6 % (one standard deviation, clipped to -14 % and +14 %).

    Args:
        class_name: detection class.
        category: nuScenes category; children are 30 % smaller.
        rng: random generator; three numbers are drawn.
        ridden: whether a two-wheeler has a rider.
        moving: whether a pedestrian walks.
    """
    length, width, height = MEAN_SIZES[class_name]
    if class_name == "pedestrian" and not moving:
        length = STANDING_LENGTH
    if ridden:
        height = RIDDEN_HEIGHT[class_name]
    common = 0.7 if category.endswith(".child") else 1.0
    factors = common * np.clip(rng.normal(1.0, 0.06, size=3), 0.86, 1.14)
    return tuple(round(float(v), 3) for v in np.array((length, width, height)) * factors)


def attribute(class_name: str, speed: float, *, ridden: bool, on_road: bool) -> str | None:
    """Returns the attribute of an annotation, or None for barriers and traffic cones.

    Standing buses and standing vehicles on the road are ``vehicle.stopped``, other standing
    vehicles ``vehicle.parked``.

    Args:
        class_name: detection class.
        speed: metres per second.
        ridden: whether a two-wheeler has a rider.
        on_road: whether the object is on a lane of a road, as opposed to parked.
    """
    moving = speed > MOVING_SPEED
    if class_name == "pedestrian":
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if class_name in ("motorcycle", "bicycle"):
        return "cycle.with_rider" if ridden else "cycle.without_rider"
    if class_name in ("barrier", "traffic_cone"):
        return None
    if moving:
        return "vehicle.moving"
    return "vehicle.stopped" if on_road or class_name == "bus" else "vehicle.parked"


def visibility_token(visible_fraction: float) -> str:
    """Returns the token ``"1"`` .. ``"4"`` of the level of a visible fraction in 0..1."""
    # side="right": a fraction equal to a bound belongs to the higher level.
    return str(1 + int(np.searchsorted(_VISIBILITY_BOUNDS, visible_fraction, side="right")))
