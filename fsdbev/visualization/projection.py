"""Projection of points and 3D boxes onto an image, cut at the near plane and the image border.

The camera model is a pinhole without distortion.

Shapes: M boxes, S segments, P points, K results.
"""

from __future__ import annotations

import numpy as np
import shapely

from fsdbev.structures import BOX_EDGES

#: Corners of the front face (+l) in order around the face, numbered as by ``box_corners``.
FRONT_FACE = np.array([4, 5, 7, 6])


def cut_segments_at_depth(segments: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """Cuts segments at the near plane and keeps the part at depth >= near.

    Args:
        segments: (S, 2, 3) end points in the camera frame, metres.
        near: depth of the near plane, metres, positive.

    Returns:
        (S, 2, 3) cut segments, and an (S,) bool mask of segments with a part in front of the plane.
        Segments outside the mask have meaningless values.
    """
    start, end = segments[:, 0], segments[:, 1]
    depth_start, depth_end = start[:, 2:], end[:, 2:]
    run = depth_end - depth_start
    # With a run of 0 both ends are on the same side of the plane, and the crossing does not matter.
    crossing = (near - depth_start) / np.where(run == 0, 1.0, run)
    at_plane = start + crossing * (end - start)
    cut = np.stack(
        [np.where(depth_start < near, at_plane, start), np.where(depth_end < near, at_plane, end)],
        axis=1,
    )
    return cut, np.maximum(depth_start, depth_end)[:, 0] >= near


def project(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Projects (..., 3) points in front of the camera to (..., 2) pixels u, v."""
    homogeneous = points @ intrinsics.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def unproject(uv: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Lifts (P, 2) pixels with (P,) depths to (P, 3) camera points; inverts :func:`project`."""
    homogeneous = np.concatenate([uv, np.ones((len(uv), 1))], axis=1) * depth[:, None]
    return homogeneous @ np.linalg.inv(intrinsics).T


def cut_segments_at_border(
    segments: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts segments at the image border ``[0, width] x [0, height]`` (Liang-Barsky clipping).

    Args:
        segments: (S, 2, 2) end points in pixels.
        width, height: image size in pixels.

    Returns:
        (S, 2, 2) cut segments, and an (S,) bool mask of segments with a part inside the image.
        Segments outside the mask have meaningless values.
    """
    start, run = segments[:, 0], segments[:, 1] - segments[:, 0]
    upper = np.array([width, height], dtype=float)
    # Along each axis the segment start + t * run is inside for t between enter and leave. A segment
    # parallel to a border has a run of 0; the quotients are then replaced below.
    with np.errstate(divide="ignore", invalid="ignore"):
        at_lower, at_upper = -start / run, (upper - start) / run
    inside = (start >= 0) & (start <= upper)
    parallel = run == 0
    enter = np.where(parallel, np.where(inside, -np.inf, np.inf), np.minimum(at_lower, at_upper))
    leave = np.where(parallel, np.inf, np.maximum(at_lower, at_upper))
    first = np.clip(enter.max(axis=1), 0, None)
    last = np.clip(leave.min(axis=1), None, 1)
    # Strict: a segment that touches the border in one point has no visible part.
    visible = first < last
    first, last = np.where(visible, first, 0), np.where(visible, last, 0)
    return start[:, None] + np.stack([first, last], axis=1)[..., None] * run[:, None], visible


def segments_on_image(
    segments: np.ndarray, intrinsics: np.ndarray, width: int, height: int, near: float
) -> tuple[np.ndarray, np.ndarray]:
    """Projects segments and keeps their visible parts.

    Args:
        segments: (S, 2, 3) end points in the camera frame, metres.
        intrinsics: (3, 3) of the image.
        width, height: image size in pixels.
        near: depth of the near plane, metres, positive.

    Returns:
        (K, 2, 2) visible parts in pixels, and the (K,) indices of their segments.
    """
    segments, in_front = cut_segments_at_depth(segments, near)
    segments = project(segments[in_front], intrinsics)
    segments, inside = cut_segments_at_border(segments, width, height)
    return segments[inside], np.flatnonzero(in_front)[inside]


def box_edges_on_image(
    corners: np.ndarray, intrinsics: np.ndarray, width: int, height: int, near: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projects the edges of M boxes and keeps their visible parts.

    Args:
        corners: (M, 8, 3) in the camera frame, metres, in the order of ``box_corners``.
        intrinsics: (3, 3) of the image.
        width, height: image size in pixels.
        near: depth of the near plane, metres, positive.

    Returns:
        (K, 2, 2) segments in pixels, their (K,) box indices, and a (K,) bool mask of the edges that
        belong to a front face.
    """
    edges = corners[:, BOX_EDGES].reshape(-1, 2, 3)
    segments, which = segments_on_image(edges, intrinsics, width, height, near)
    in_front_face = np.isin(BOX_EDGES, FRONT_FACE).all(axis=1)
    return segments, which // len(BOX_EDGES), in_front_face[which % len(BOX_EDGES)]


def front_face_on_image(
    corners: np.ndarray, intrinsics: np.ndarray, width: int, height: int, near: float
) -> np.ndarray | None:
    """Projects the front face of one box and keeps its visible part.

    Args:
        corners: (8, 3) in the camera frame, metres, in the order of ``box_corners``.
        intrinsics: (3, 3) of the image.
        width, height: image size in pixels.
        near: depth of the near plane, metres, positive.

    Returns:
        (K, 2) corners of the visible polygon in pixels, or None if nothing is visible.
    """
    face = corners[FRONT_FACE]
    sides = np.stack([face, np.roll(face, -1, axis=0)], axis=1)
    sides, in_front = cut_segments_at_depth(sides, near)
    if not in_front.any():
        return None
    # A rectangle cut by a plane stays convex, so it is the hull of its cut sides.
    outline = shapely.MultiPoint(project(sides[in_front].reshape(-1, 3), intrinsics)).convex_hull
    visible = outline.intersection(shapely.box(0, 0, width, height))
    # A face seen edge-on, or one that only touches the border, is a line or a point.
    if visible.geom_type != "Polygon" or visible.is_empty:
        return None
    return np.asarray(visible.exterior.coords)
