"""A made-up drive as dense as nuScenes: rows of a frame index, and the sweeps they name.

Six cameras of 1600 x 900, scenes of 40 samples, half a second apart; objects stand or drive around
a slow vehicle. Names are as long as nuScenes' own, since they are part of the index's size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fsdbev.data.records import Annotations, Frame, Lidar
from fsdbev.structures import CLASS_NAMES

SCENE_LENGTH = 40
BEAMS = 32
WIDTH, HEIGHT, FOCAL = 1600, 900, 1266.0
LIDAR_HEIGHT = 1.84
#: Share of a sweep's points that are on objects.
ON_OBJECTS = 0.1
STEP = 0.5  # metres and seconds from one sample to the next
REACH = 50.0


def samples(count: int, boxes: int, cameras: int) -> Iterator[tuple[Frame, Annotations]]:
    """Rows for ``write_index``: ``boxes`` objects in each of ``count`` samples."""
    for row in range(count):
        yield _frame(row, count, cameras), _objects(row, boxes)


def write_sweep(path: Path, row: int, objects: Annotations, points: int) -> None:
    """A sweep of ``points`` points: rings on the ground, walls, and the objects of the sample."""
    rng = np.random.default_rng((1, row))
    elevation = np.radians(np.linspace(-30, 10, BEAMS))[np.arange(points) % BEAMS]
    azimuth = rng.uniform(-math.pi, math.pi, points)
    wall = rng.uniform(5, 70, points)
    ground = LIDAR_HEIGHT / np.maximum(np.tan(-elevation), 1e-3)
    distance = np.minimum(wall, ground)
    xyz = np.stack(
        [distance * np.cos(azimuth), distance * np.sin(azimuth), distance * np.tan(elevation)], 1
    )
    if len(objects):
        hits = rng.random(points) < ON_OBJECTS
        box = rng.integers(len(objects), size=hits.sum())
        local = rng.uniform(-0.5, 0.5, (len(box), 3)) * objects.size[box]
        placed = np.einsum("pij,pj->pi", objects.rotation[box], local) + objects.center[box]
        xyz[hits] = placed - (0, 0, LIDAR_HEIGHT)
    records = np.zeros((points, 5), np.float32)
    records[:, :3] = xyz
    path.parent.mkdir(parents=True, exist_ok=True)
    records.tofile(path)


def _token(*parts: object) -> str:
    return hashlib.md5(repr(parts).encode()).hexdigest()


def _frame(row: int, count: int, cameras: int) -> Frame:
    scene, place = divmod(row, SCENE_LENGTH)
    stem = f"n015-2018-07-18-11-07-57+0800__CAMERA__{1_531_883_530_404_844 + 500_000 * row}"
    ego2global = np.tile(np.eye(4), (cameras, 1, 1))
    ego2global[:, :3, 3] = (600 + STEP * place, 1600, 0)
    lidar2ego = np.eye(4)
    lidar2ego[2, 3] = LIDAR_HEIGHT
    timestamp = 1_531_883_530_000_000 + 500_000 * row
    matrix = [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]
    return Frame(
        sample_token=_token("sample", row),
        scene_token=_token("scene", scene),
        scene_name=f"scene-{scene:04d}",
        timestamp=timestamp,
        previous=row - 1 if place else -1,
        next=row + 1 if place + 1 < SCENE_LENGTH and row + 1 < count else -1,
        channels=tuple(f"CAM_NUMBER_{camera}" for camera in range(cameras)),
        image_paths=tuple(f"samples/CAMERA_{camera}/{stem}.jpg" for camera in range(cameras)),
        image_sizes=np.tile(np.array([WIDTH, HEIGHT], np.int32), (cameras, 1)),
        camera_timestamps=timestamp + 10_000 * np.arange(cameras),
        intrinsics=np.tile(np.array(matrix), (cameras, 1, 1)),
        cam2ego=np.stack([_look(2 * math.pi * n / cameras) for n in range(cameras)]),
        ego2global=ego2global,
        reference_camera=0,
        lidar=Lidar(
            path=f"samples/LIDAR_TOP/{stem}.pcd.bin",
            timestamp=timestamp,
            lidar2ego=lidar2ego,
            ego2global=ego2global[0],
        ),
    )


def _look(yaw: float) -> NDArray[np.float64]:
    """cam2ego of a level camera on the roof."""
    cam2ego = np.eye(4)
    cam2ego[:3, 0] = (math.sin(yaw), -math.cos(yaw), 0)
    cam2ego[:3, 1] = (0, 0, -1)
    cam2ego[:3, 2] = (math.cos(yaw), math.sin(yaw), 0)
    cam2ego[:3, 3] = (math.cos(yaw), math.sin(yaw), 1.5)
    return cam2ego


def _objects(row: int, count: int) -> Annotations:
    """The scene's objects, where they are in this sample's ego frame; seven in ten stand still."""
    scene, place = divmod(row, SCENE_LENGTH)
    rng = np.random.default_rng((0, scene))
    boxes = np.zeros((count, 9), np.float32)
    boxes[:, :2] = rng.uniform(-REACH, REACH, (count, 2))
    boxes[:, 3:6] = rng.uniform((0.5, 0.5, 1.2), (8.0, 2.5, 3.0), (count, 3))
    boxes[:, 2] = boxes[:, 5] / 2
    boxes[:, 6] = rng.uniform(-math.pi, math.pi, count)
    speed = np.where(rng.random(count) < 0.7, 0.0, rng.uniform(1, 3, count))
    boxes[:, 7], boxes[:, 8] = speed * np.cos(boxes[:, 6]), speed * np.sin(boxes[:, 6])
    boxes[:, :2] += STEP * place * boxes[:, 7:9]
    boxes[:, 0] -= STEP * place
    return Annotations.from_boxes(
        boxes,
        rng.integers(len(CLASS_NAMES), size=count),
        tokens=tuple(_token("box", row, number) for number in range(count)),
        instance_tokens=tuple(_token("object", scene, number) for number in range(count)),
        attributes=tuple("vehicle.moving" if v else "vehicle.parked" for v in speed),
        visibility=rng.integers(1, 5, count).astype(np.int8),
        num_lidar_points=rng.integers(0, 200, count).astype(np.int32),
    )
