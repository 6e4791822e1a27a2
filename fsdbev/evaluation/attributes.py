"""Which nuScenes attribute a detection is submitted with: a rule on class and speed."""

from __future__ import annotations

#: Above this speed (m/s) an object counts as moving (SPEC section 8).
MOVING_SPEED = 0.2

#: class -> (attribute when slower, attribute when moving); "" where the class has no attributes.
ATTRIBUTE_RULES = {
    "car": ("vehicle.parked", "vehicle.moving"),
    "truck": ("vehicle.parked", "vehicle.moving"),
    "construction_vehicle": ("vehicle.parked", "vehicle.moving"),
    "bus": ("vehicle.stopped", "vehicle.moving"),
    "trailer": ("vehicle.parked", "vehicle.moving"),
    "barrier": ("", ""),
    "motorcycle": ("cycle.without_rider", "cycle.with_rider"),
    "bicycle": ("cycle.without_rider", "cycle.with_rider"),
    "pedestrian": ("pedestrian.standing", "pedestrian.moving"),
    "traffic_cone": ("", ""),
}


def attribute_of(class_name: str, speed: float) -> str:
    """Attribute name of one detection; ``speed`` in m/s. "" for classes without attributes."""
    if class_name not in ATTRIBUTE_RULES:
        known = ", ".join(ATTRIBUTE_RULES)
        raise ValueError(f"no attribute rule for class {class_name!r}; there are some for {known}")
    return ATTRIBUTE_RULES[class_name][speed > MOVING_SPEED]
