"""Points onto an image and back; 3D boxes as segments and polygons on an image, cut at the near
plane and the image border.

Shapes: M boxes, E = 12 edges a box, S segments.
"""

from __future__ import annotations

import numpy as np
import shapely

from fsdbev.structures import BOX_EDGES

#: Corners of the face that heads forward (+l), in order around it; see ``box_corners``.
FRONT_FACE = np.array([4, 5, 7, 6])


def cut_segments_at_depth(segments: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of each segment at depth >= near.

    Args:
        segments: (S, 2, 3) end points in the camera frame, metres.
        near: depth of the near plane, metres, positive.

    Returns:
        (S, 2, 3) cut segments (those behind the plane are meaningless) and (S,) bool: any left.
    """
    start, end = segments[:, 0], segments[:, 1]
    depth_start, depth_end = start[:, 2:], end[:, 2:]
    run = depth_end - depth_start
    crossing = (near - depth_start) / np.where(run == 0, 1.0, run)
    at_plane = start + crossing * (end - start)
    cut = np.stack(
        [np.where(depth_start < near, at_plane, start), np.where(depth_end < near, at_plane, end)],
        axis=1,
    )
    return cut, np.maximum(depth_start, depth_end)[:, 0] >= near


def project(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(..., 3) camera points in front of the camera -> (..., 2) pixels u, v."""
    homogeneous = points @ intrinsics.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def unproject(uv: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(P, 2) pixels and (P,) depths -> (P, 3) camera points: :func:`project` backwards."""
    homogeneous = np.concatenate([uv, np.ones((len(uv), 1))], axis=1) * depth[:, None]
    return homogeneous @ np.linalg.inv(intrinsics).T


def cut_segments_at_border(
    segments: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of each (S, 2, 2) pixel segment inside ``[0, width] x [0, height]``.

    Returns:
        (S, 2, 2) cut segments (those outside are meaningless) and (S,) bool: any left.
    """
    start, run = segments[:, 0], segments[:, 1] - segments[:, 0]
    upper = np.array([width, height], dtype=float)
    # Along each axis the segment start + t * run is inside for t between enter and leave.
    with np.errstate(divide="ignore", invalid="ignore"):
        at_lower, at_upper = -start / run, (upper - start) / run
    inside = (start >= 0) & (start <= upper)
    still = run == 0
    enter = np.where(still, np.where(inside, -np.inf, np.inf), np.minimum(at_lower, at_upper))
    leave = np.where(still, np.inf, np.maximum(at_lower, at_upper))
    first = np.clip(enter.max(axis=1), 0, None)
    last = np.clip(leave.min(axis=1), None, 1)
    visible = first < last
    first, last = np.where(visible, first, 0), np.where(visible, last, 0)
    return start[:, None] + np.stack([first, last], axis=1)[..., None] * run[:, None], visible


def segments_on_image(
    segments: np.ndarray, intrinsics: np.ndarray, width: int, height: int, near: float
) -> tuple[np.ndarray, np.ndarray]:
    """The visible parts of segments.

    Args:
        segments: (S, 2, 3) end points in the camera frame, metres.
        near: depth of the near plane, metres, positive.

    Returns:
        (K, 2, 2) pixels of those of which a part is visible, and (K,) which they are.
    """
    segments, seen = cut_segments_at_depth(segments, near)
    segments = project(segments[seen], intrinsics)
    segments, inside = cut_segments_at_border(segments, width, height)
    return segments[inside], np.flatnonzero(seen)[inside]


def box_edges_on_image(
    corners: np.ndarray, intrinsics: np.ndarray, width: int, height: int, near: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The visible edges of M boxes.

    Args:
        corners: (M, 8, 3) in the camera frame, metres, ordered as by ``box_corners``.

    Returns:
        (S, 2, 2) segments in pixels, (S,) index of the box and (S,) bool: edge of the front face.
    """
    edges = corners[:, BOX_EDGES].reshape(-1, 2, 3)
    segments, which = segments_on_image(edges, intrinsics, width, height, near)
    in_front_face = np.isin(BOX_EDGES, FRONT_FACE).all(axis=1)
    return segments, which // len(BOX_EDGES), in_front_face[which % len(BOX_EDGES)]


def front_face_on_image(
    corners: np.ndarray, intrinsics: np.ndarray, width: int, height: int, near: float
) -> np.ndarray | None:
    """The visible part of one box's front face: (K, 2) pixels, or None where there is none.

    Args:
        corners: (8, 3) in the camera frame, metres.
    """
    face = corners[FRONT_FACE]
    sides, seen = cut_segments_at_depth(np.stack([face, np.roll(face, -1, axis=0)], axis=1), near)
    if not seen.any():
        return None
    outline = shapely.MultiPoint(project(sides[seen].reshape(-1, 3), intrinsics)).convex_hull
    visible = outline.intersection(shapely.box(0, 0, width, height))
    if visible.geom_type != "Polygon" or visible.is_empty:
        return None
    return np.asarray(visible.exterior.coords)
