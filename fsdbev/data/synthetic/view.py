"""Cameras of the renderer: rays through the pixels, and bounds of boxes in the image.

Shapes: P parts, H x W image. Pixel (column j, row i) covers [j, j + 1) x [i, i + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fsdbev.structures import Lens

#: Rays through the pixel centres: x and y of the directions (x, y, 1) in the camera frame, float32
#: arrays that broadcast to (H, W). Those of a pinhole camera are (1, W) and (H, 1).
Rays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class View:
    """A camera at one time.

    Attributes:
        cam2street: (4, 4) pose.
        intrinsics: (3, 3), pixels.
        size: (width, height), pixels.
        lens: a fisheye lens, which has the same intrinsics; None for a pinhole camera.
    """

    cam2street: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]
    lens: Lens | None = None

    def rays(self) -> Rays:
        """Returns the rays through the pixel centres."""
        k = self.intrinsics
        u, v = (np.arange(extent) + 0.5 for extent in self.size)
        if self.lens is None:
            x, y = (u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1]
            return x[None, :].astype(np.float32), y[:, None].astype(np.float32)
        centres = np.stack(np.meshgrid(u, v), axis=-1)
        rays = cv2.fisheye.undistortPoints(centres, k, np.array(self.lens.coefficients))
        return rays[..., 0].astype(np.float32), rays[..., 1].astype(np.float32)

    def pixel_bounds(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns bounds of the pixels whose rays are within bounds.

        Args:
            low, high: (P, 2) smallest and largest x and y of the rays.

        Returns:
            (P, 2) smallest and largest pixel coordinates u and v, a pixel larger than necessary for
            a fisheye lens.
        """
        k = self.intrinsics
        if self.lens is None:
            focal, center = k.diagonal()[:2], k[:2, 2]
            return low * focal + center, high * focal + center
        # u grows with x. A fisheye lens shrinks x more, the farther y is from the axis; so the
        # extremes of u are at the ends of x and at the largest or smallest distance of y from 0.
        marks = np.stack([low, high, np.clip(0.0, low, high)])
        x, y = np.broadcast_arrays(marks[:, None, :, 0], marks[None, :, :, 1])
        points = np.stack([x, y], axis=-1).reshape(1, -1, 2)
        pixels = cv2.fisheye.distortPoints(points, k, np.array(self.lens.coefficients))
        pixels = pixels.reshape(9, -1, 2)
        return pixels.min(axis=0) - 1, pixels.max(axis=0) + 1
