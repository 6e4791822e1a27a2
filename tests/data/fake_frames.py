"""Rows of a frame index for rigs of any size."""

import math

import numpy as np

from fsdbev.data.records import Frame


def _camera_pose(yaw: float) -> np.ndarray:
    """cam2ego of a level camera that looks along ``yaw`` from 1.5 m above ground."""
    forward = np.array([math.cos(yaw), math.sin(yaw), 0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(forward, [0, 0, 1]), [0, 0, -1], forward], axis=1)
    pose[:3, 3] = [0.5 * forward[0], 0.5 * forward[1], 1.5]
    return pose


def make_frame(row: int, count: int, sizes, reference: int = 0) -> Frame:
    """Frame ``row`` of a scene of ``count``: cameras all around, 5 m from one frame to the next."""
    cameras = len(sizes)
    ego2global = np.tile(np.eye(4), (cameras, 1, 1))
    ego2global[:, :3, 3] = [1000 + 5.0 * row, 500, 0]
    ego2global[:, 0, 3] += 0.1 * np.arange(cameras)  # every camera fires at its own time
    intrinsics = np.stack([[[w, 0, w / 2], [0, w, h / 2], [0, 0, 1.0]] for w, h in sizes])
    return Frame(
        sample_token=f"sample{row}",
        scene_token="scene",
        scene_name="scene-made-up",
        timestamp=500_000 * row,
        previous=row - 1,
        next=row + 1 if row + 1 < count else -1,
        channels=tuple(f"CAM_{n}" for n in range(cameras)),
        image_paths=tuple(f"images/{row}_{n}.png" for n in range(cameras)),
        image_sizes=np.array(sizes, np.int32),
        camera_timestamps=500_000 * row + np.arange(cameras),
        intrinsics=intrinsics,
        cam2ego=np.stack([_camera_pose(2 * math.pi * n / cameras) for n in range(cameras)]),
        ego2global=ego2global,
        reference_camera=reference,
    )
