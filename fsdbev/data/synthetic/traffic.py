"""Directions of the traffic of a scene, on both sides of the road.

A side is -1 right and 1 left of the centre line; a direction is 1 along s and -1 against it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Values of ``SyntheticOptions.traffic``.
TRAFFIC = ("right", "both")
_SIGNS = (-1.0, 1.0)


@dataclass(frozen=True)
class Traffic:
    """Sides and directions of vehicles and riders in a scene.

    Attributes:
        ego_side: side of the ego vehicle, which drives along s.
        lanes, cycle_lanes: side -> direction of the vehicles and of the riders.
        any_way: whether parked vehicles face either way, and those on the side street wait in
            either lane or turn at the crossing.
    """

    ego_side: float
    lanes: dict[float, float]
    cycle_lanes: dict[float, float]
    any_way: bool

    @staticmethod
    def draw(name: str, rng: np.random.Generator) -> Traffic:
        """Draws the traffic of a scene.

        Args:
            name: ``"right"`` for right-hand traffic, which consumes no random numbers; ``"both"``
                for a direction of each lane that does not depend on its side, so that the position
                of a vehicle does not tell its heading.
            rng: random generator of the world.
        """
        if name == "right":
            along = {side: -side for side in _SIGNS}
            return Traffic(-1.0, along, along, any_way=False)
        signs = rng.choice(_SIGNS, size=5).tolist()
        lanes, cycle_lanes = (dict(zip(_SIGNS, signs[i : i + 2])) for i in (1, 3))
        return Traffic(signs[0], lanes, cycle_lanes, any_way=True)
