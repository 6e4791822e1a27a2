"""Generates a fake recording of a three-camera rig, the example data of docs/custom_dataset.md.

    python docs/examples/fake_recording.py recording

``rig.json`` has image sizes, camera matrices and mounts. ``<drive>/log.json`` is a list of entries
with files, vehicle poses and objects in world coordinates. There are two drives at 2 Hz; the third
entry of the second drive is missing.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

#: Name -> (width, height), focal length in pixels, viewing direction in degrees to the left.
CAMERAS = {
    "left": ((640, 480), 400.0, 60.0),
    "front": ((800, 600), 560.0, 0.0),
    "right": ((512, 512), 320.0, -60.0),
}
SHUTTER = {"left": -0.03, "front": 0.0, "right": 0.03}  # seconds
DRIVES = {"north": (0, 1, 2, 3), "south": (0, 1, 3, 4)}  # entries, two per second
#: Kind, (length, width, height), position at the start, heading in degrees, m/s, LiDAR points.
OBJECTS = (
    ("sedan", (4.4, 1.8, 1.5), (18.0, 2.0), 10.0, 0.0, 80),
    ("lorry", (8.0, 2.6, 3.2), (30.0, -7.0), 0.0, 4.0, 80),
    ("person", (0.6, 0.7, 1.8), (14.0, 14.0), 90.0, 0.0, 40),
    ("sedan", (4.2, 1.8, 1.4), (14.0, -12.0), 170.0, 0.0, 80),
    ("bollard", (0.3, 0.3, 1.0), (12.0, -1.0), 0.0, 0.0, 40),
    ("person", (0.6, 0.7, 1.8), (20.0, 9.0), 0.0, 0.0, 0),
)
COLORS = {
    "sedan": (0, 0, 255),
    "lorry": (255, 0, 0),
    "person": (0, 160, 0),
    "bollard": (255, 255, 0),
}
SKY, GROUND = (150, 190, 230), (90, 90, 90)
FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
SIGNS = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)]) - (0.5, 0.5, 0.0)


def pose(yaw: float, position: tuple[float, ...], pitch: float = 0.0) -> np.ndarray:
    """Returns a (4, 4) pose from angles in degrees (positive pitch: nose down) and a position."""
    a, b = math.radians(yaw), math.radians(pitch)
    turn = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn @ tilt, position
    return matrix


#: Camera axes (right, down, forward) in the vehicle's (forward, left, up).
LOOK = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
MOUNTS = {name: pose(yaw, (1.0, 0.0, 1.6)) @ LOOK for name, (_, _, yaw) in CAMERAS.items()}
LIDAR_MOUNT = pose(90.0, (0.5, 0.0, 2.0))


def vehicle(time: float) -> np.ndarray:
    """Returns world_T_vehicle: 3 m/s along a heading of 30 degrees, pitched down by 1 degree."""
    heading = math.radians(30.0)
    place = (500 + 3 * time * math.cos(heading), 200 + 3 * time * math.sin(heading), 0.0)
    return pose(30.0, place, pitch=1.0)


def objects_at(time: float) -> list[dict]:
    """Returns the objects in world coordinates; ``position`` is the centre of the bottom."""
    found = []
    for number, (kind, size, start, heading, speed, points) in enumerate(OBJECTS):
        world = vehicle(0.0) @ [*start, 0.0, 1.0]
        angle = math.radians(30.0 + heading)
        velocity = np.array([math.cos(angle), math.sin(angle), 0.0]) * speed
        found.append(
            {
                "id": f"object{number}",
                "kind": kind,
                "size_lwh": size,
                "position": (world[:3] + velocity * time).tolist(),
                "heading_deg": 30.0 + heading,
                "velocity": velocity.tolist(),
                "visible": 1.0,
                "points": points,
            }
        )
    return found


def object_pose(thing: dict) -> np.ndarray:
    return pose(thing["heading_deg"], thing["position"])


def paint(camera: str, time: float) -> Image.Image:
    """Draws the objects as plain boxes in front of sky and ground, the farthest first."""
    (width, height), focal, _ = CAMERAS[camera]
    image = Image.new("RGB", (width, height), SKY)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height // 2, width, height), GROUND)
    world2cam = np.linalg.inv(vehicle(time) @ MOUNTS[camera])
    boxes = []
    for thing in objects_at(time):
        corners = np.c_[SIGNS * thing["size_lwh"], np.ones(8)]
        x, y, z, _ = world2cam @ object_pose(thing) @ corners.T
        if z.min() > 1:
            pixels = np.c_[focal * x / z + width / 2, focal * y / z + height / 2]
            boxes.append((z.min(), pixels, COLORS[thing["kind"]]))
    for _, pixels, color in sorted(boxes, key=lambda box: -box[0]):
        for face in FACES:
            draw.polygon([tuple(pixels[corner]) for corner in face], fill=color)
    return image


def scan(time: float, rng: np.random.Generator) -> np.ndarray:
    """Returns (P, 4) float32 x, y, z, reflectivity in the LiDAR frame."""
    around = rng.uniform(-40, 40, (500, 2))
    parts = [np.c_[around, np.zeros(500)] + vehicle(time)[:3, 3]]
    for thing in objects_at(time):
        count = thing["points"]
        inside = SIGNS[rng.integers(8, size=count)] * rng.uniform(0.2, 0.9, (count, 1))
        turned = (inside * thing["size_lwh"]) @ object_pose(thing)[:3, :3].T
        parts.append(turned + thing["position"])
    points = np.concatenate(parts)
    world2lidar = np.linalg.inv(vehicle(time) @ LIDAR_MOUNT)
    points = points @ world2lidar[:3, :3].T + world2lidar[:3, 3]
    return np.c_[points, rng.random(len(points))].astype(np.float32)


def record(folder: Path) -> None:
    """Writes the recording into ``folder``."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rig = {"cameras": {}, "vehicle_T_lidar": LIDAR_MOUNT.tolist()}
    for name, ((width, height), focal, _) in CAMERAS.items():
        matrix = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
        facts = {"size": (width, height), "matrix": matrix}
        rig["cameras"][name] = {**facts, "vehicle_T_camera": MOUNTS[name].tolist()}
    (folder / "rig.json").write_text(json.dumps(rig))
    for drive, frames in DRIVES.items():
        (folder / drive).mkdir(exist_ok=True)
        log = [_entry(folder, f"{drive}/{number}", number / 2, rng) for number in frames]
        (folder / drive / "log.json").write_text(json.dumps(log))


def _entry(folder: Path, stem: str, time: float, rng: np.random.Generator) -> dict:
    images = {}
    for name in CAMERAS:
        frame = time + SHUTTER[name]
        file = f"{stem}_{name}.png"
        paint(name, frame).save(folder / file)
        images[name] = {"file": file, "time": frame, "world_T_vehicle": vehicle(frame).tolist()}
    np.save(folder / f"{stem}.npy", scan(time, rng))
    sweep = {"file": f"{stem}.npy", "time": time, "world_T_vehicle": vehicle(time).tolist()}
    return {"time": time, "images": images, "sweep": sweep, "objects": objects_at(time)}


if __name__ == "__main__":
    record(Path(sys.argv[1]))
