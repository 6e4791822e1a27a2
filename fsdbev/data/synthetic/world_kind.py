"""Kinds of worlds: how far the objects reach, and how much the sensors measure of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorldKind:
    """What distinguishes one kind of world from another.

    Attributes:
        behind, ahead: objects stand from ``behind`` metres behind the first ego pose to ``ahead``
            metres ahead of the last one.
        density: factor on the number of objects along the street.
        weak_returns: whether a LiDAR ray that hits an object may have no return (``lidar.scan``),
            radar points are counted (``catalog.RADAR_POINTS``), and an object with a point in any
            key frame of its scene is annotated in all of them (``scene``).
    """

    behind: float
    ahead: float
    density: float
    weak_returns: bool


#: Values of ``SyntheticOptions.world``: "street" is small, and its objects have many points;
#: "nuscenes" follows the statistics of nuScenes (docs/comparison.md).
WORLD_KINDS = {
    "street": WorldKind(behind=24.0, ahead=26.0, density=1.0, weak_returns=False),
    "nuscenes": WorldKind(behind=58.0, ahead=60.0, density=0.58, weak_returns=True),
}
