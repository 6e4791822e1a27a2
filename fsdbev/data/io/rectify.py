"""Rectification: from the image of a lens to that of a pinhole camera, by OpenCV.

OpenCV counts pixels from the centre of the first one. In this project pixel (column j, row i)
covers [j, j + 1) x [i, i + 1): image augmentation scales, crops and mirrors u and v accordingly,
and labels round coordinates down. Principal points are therefore half a pixel smaller in OpenCV.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike, NDArray

from fsdbev.structures import Lens, is_intrinsics

#: Number of lookup tables that a process keeps. A table has 6 bytes per pixel, 9 MB for an image of
#: 1600 x 900; one that is not kept is computed again for the next image.
_KEPT_TABLES = 16
#: Largest factor between the focal lengths of raw and rectified images; that of a lens which sees
#: 178 degrees, all of which a pinhole camera with this factor shows.
_MAX_FOCAL_FACTOR = 30.0
#: cv2.remap's limit, pixels.
_MAX_SIDE = (1 << 15) - 2
_HALF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def rectified_intrinsics(
    lens: Lens, image_size: tuple[int, int], balance: float | None = None
) -> NDArray[np.float64]:
    """Returns the intrinsics of the rectified images of a lens.

    Args:
        lens: model, coefficients and intrinsics of the raw images.
        image_size: (width, height) of raw and rectified images, pixels.
        balance: None keeps the intrinsics of the lens and so the scale at the image centre. 0 to 1
            derives new ones as OpenCV does (``alpha`` of ``getOptimalNewCameraMatrix``, ``balance``
            of ``fisheye.estimateNewCameraMatrixForUndistortRectify``): 0 with hardly any black
            border, 1 with hardly any of the raw image lost.

    Returns:
        (3, 3) float64, pixels.

    Raises:
        ValueError: ``balance`` is not within 0..1, or OpenCV finds no usable intrinsics, as for a
            lens that sees 180 degrees.
    """
    if balance is None:
        return lens.intrinsics.copy()
    if not 0 <= balance <= 1:
        raise ValueError(f"the balance of a lens must be within 0..1, got {balance}")
    raw, coefficients = lens.intrinsics - _HALF_PIXEL, np.array(lens.coefficients)
    size = (int(image_size[0]), int(image_size[1]))
    if lens.model == "fisheye":
        found = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
            raw, coefficients, size, np.eye(3), balance=balance
        )
    else:
        found = cv2.getOptimalNewCameraMatrix(raw, coefficients, size, balance)[0]
    found = found + _HALF_PIXEL
    factor = found.diagonal()[:2] / raw.diagonal()[:2]
    usable = (factor > 1 / _MAX_FOCAL_FACTOR).all() and (factor < _MAX_FOCAL_FACTOR).all()
    if not (usable and is_intrinsics(torch.from_numpy(found))):
        raise ValueError(
            f"balance {balance}: OpenCV finds no pinhole camera for the {lens.model} lens with "
            f"coefficients {list(lens.coefficients)}, it returns {found.tolist()}; use a smaller "
            "balance or none, or correct the coefficients"
        )
    return found


def rectify(
    image: NDArray[np.uint8], lens: Lens | None, intrinsics: ArrayLike
) -> NDArray[np.uint8]:
    """Rectifies an image, with linear interpolation.

    Args:
        image: (height, width, 3) uint8 as the camera recorded it.
        lens: the camera's lens; None returns the image as it is.
        intrinsics: (3, 3) of the rectified image, see :func:`rectified_intrinsics`.

    Returns:
        Image of the same size and type; black where the raw image has no pixels.

    Raises:
        ValueError: a side of the image is too long for OpenCV.
    """
    if lens is None:
        return image
    height, width = image.shape[:2]
    if max(height, width) > _MAX_SIDE:
        raise ValueError(
            f"an image of {width} x {height} pixels can't be rectified, OpenCV's limit is "
            f"{_MAX_SIDE} per side; rectify it before, and leave out the distortion"
        )
    rows = tuple(map(tuple, np.asarray(intrinsics, np.float64).tolist()))
    return cv2.remap(image, *_lookup_tables(lens, rows, (width, height)), cv2.INTER_LINEAR)


@lru_cache(maxsize=_KEPT_TABLES)
def _lookup_tables(
    lens: Lens, intrinsics: tuple[tuple[float, ...], ...], size: tuple[int, int]
) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Returns OpenCV's fixed-point tables of the raw pixel of each rectified pixel."""
    raw, new = lens.intrinsics - _HALF_PIXEL, np.array(intrinsics) - _HALF_PIXEL
    module = cv2.fisheye if lens.model == "fisheye" else cv2
    coefficients = np.array(lens.coefficients)
    u, v = module.initUndistortRectifyMap(raw, coefficients, np.eye(3), new, size, cv2.CV_32FC1)
    x = (np.arange(size[0], dtype=np.float32) - new[0, 2]) / new[0, 0]
    y = (np.arange(size[1], dtype=np.float32) - new[1, 2]) / new[1, 1]
    radius = np.hypot(x, y[:, None])
    # Outside of the raw image: OpenCV would repeat parts of it there.
    u[radius > _valid_radius(lens, float(radius.max()))] = -2
    # Not CV_16SC2 at once: far outside of the raw image those coordinates overflow.
    return cv2.convertMaps(u, v, cv2.CV_16SC2)


def _valid_radius(lens: Lens, largest: float) -> float:
    """Returns the distance from the optical axis, at depth 1, beyond which the lens model is not
    invertible: its polynomial decreases, because it was fitted to smaller angles only.

    Args:
        lens: the lens.
        largest: largest distance of interest.
    """
    radius = np.linspace(0, largest, 2000)
    k = lens.coefficients
    if lens.model == "fisheye":
        angle = np.arctan(radius)
        distorted = angle * polyval(angle**2, (1, *k))
    else:
        factor = polyval(radius**2, (1, *k[:2], *k[4:5]))
        distorted = radius * factor / polyval(radius**2, (1, *k[5:8]))
    decreases = np.flatnonzero(np.diff(distorted) <= 0)
    return float(radius[decreases[0]]) if len(decreases) else largest
