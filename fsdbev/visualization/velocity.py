"""Arrows for velocities, as segments in space: the same from above and in every camera.

Letters: M boxes, A arrows.
"""

from __future__ import annotations

import numpy as np

from fsdbev.structures import Boxes3D

#: An arrow is as long as the way made in this time.
ARROW_SECONDS = 1.0
_MIN_SPEED = 0.5  # m/s; slower objects get no arrow
# Of the head: length as a share of the arrow's and its bounds in metres, half its opening.
_HEAD_SHARE, _HEAD_LENGTH, _HEAD_ANGLE = 0.3, (0.4, 1.5), np.radians(28)


def velocity_arrows(boxes: Boxes3D) -> tuple[np.ndarray, np.ndarray]:
    """What moves points where it will be in ``ARROW_SECONDS``, from the middle of its bottom.

    Returns:
        (A, 3, 2, 3) segments, metres in the boxes' frame: shaft and the two sides of the head; (A,)
        index of each arrow's box.
    """
    values = boxes.tensor.double().cpu().numpy()
    speed = np.linalg.norm(values[:, 7:9], axis=1)
    owner = np.flatnonzero(speed >= _MIN_SPEED)
    start = values[owner, :3]
    start[:, 2] -= values[owner, 5] / 2
    way = np.zeros_like(start)
    way[:, :2] = ARROW_SECONDS * values[owner, 7:9]
    tip = start + way
    length = np.clip(_HEAD_SHARE * ARROW_SECONDS * speed[owner], *_HEAD_LENGTH)
    back = -way * (length / np.linalg.norm(way, axis=1).clip(1e-9))[:, None]
    segments = [(start, tip)]
    for angle in (-_HEAD_ANGLE, _HEAD_ANGLE):
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        segments.append((tip, tip + back @ turn.T))
    return np.stack([np.stack(ends, axis=1) for ends in segments], axis=1), owner
