"""One scene: simulates it, writes its images and sweeps, returns its table records.

Times follow nuScenes. A sample has the lidar's time stamp, and its annotations hold then. Every
camera fires up to 44 ms earlier and shows the world, moving objects included, at its own time from
its own ego pose; so the box of a moving object leads its picture by speed times that lead (0.4 m at
10 m/s), as it does in nuScenes.

Shapes: A actors.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from PIL import Image

from . import catalog
from .crowd import CLEARANCE
from .lidar import Sweep, scan
from .options import MAX_SCENES, SPLITS, SyntheticOptions
from .parts import Parts
from .render import Picture, View, render
from .sensor_rig import Sensor, draw_rig
from .table_writer import Tables, empty_tables, link, quaternion, token
from .town import TownSlot
from .trajectory import rotation_z
from .world import FRAME_PERIOD, World, build_world

_JPEG_QUALITY = 92
_FIRST_TIMESTAMP = 1_700_000_000_000_000
_SCENE_INTERVAL = 100_000_000
#: Key frames come this irregularly, cameras trigger this irregularly (+-, seconds).
_FRAME_JITTER, _CAMERA_JITTER = 0.004, 0.0005
_IMAGE_NOISE = 0.012
_NOISE_PAD = 61


@dataclass(frozen=True)
class SceneKey:
    """Which scene: its split and its index in the split. Both and the seed decide its content."""

    split: str
    index: int

    @property
    def number(self) -> int:
        """Number in the scene's name and time."""
        return 1 + self.index + MAX_SCENES * SPLITS.index(self.split)

    @property
    def name(self) -> str:
        return f"scene-{self.number:04d}"

    @property
    def town(self) -> TownSlot:
        """Where it lies: splits share no town."""
        return TownSlot.of(self.split, self.index)

    def generator(self, seed: int, stream: str) -> np.random.Generator:
        """Random numbers of one stream ("world", "sensors", "noise") of this scene."""
        number = ("world", "sensors", "noise").index(stream)
        return np.random.default_rng([seed, SPLITS.index(self.split), self.index, number])


@dataclass(frozen=True)
class SceneResult:
    """Table records of a scene, and (n, 2) global polygons of its road for the map."""

    tables: Tables
    outline: list[np.ndarray]


@dataclass(frozen=True)
class _Frame:
    """What the sensors saw of the actors at one key frame.

    Attributes:
        time: of the lidar.
        points: (A,) lidar points on each actor.
        covered, visible: (A,) pixels over all cameras, as in ``Picture``.
    """

    time: int
    points: np.ndarray
    covered: np.ndarray
    visible: np.ndarray


def write_scene(root: str, version: str, options: SyntheticOptions, key: SceneKey) -> SceneResult:
    """Writes the sensor files under ``root``; the records' file names are relative to it."""
    writer = _SceneWriter(root, version, options, key)
    return SceneResult(writer.write(), key.town.outline(writer.world))


class _SceneWriter:
    """State of one scene while it is written. Times are whole microseconds from scene start."""

    def __init__(self, root: str, version: str, options: SyntheticOptions, key: SceneKey) -> None:
        self.root, self.version, self.options, self.key = root, version, options, key
        self.world: World = build_world(options, key.generator(options.seed, "world"))
        self.street2global = key.town.street2global(self.world)
        self.sensor_rng = key.generator(options.seed, "sensors")
        self.noise_rng = key.generator(options.seed, "noise")
        width, height = options.image_size
        shape = (height + _NOISE_PAD, width + _NOISE_PAD, 3)
        self.noise = self.noise_rng.standard_normal(shape, dtype=np.float32) * _IMAGE_NOISE
        self.rig = draw_rig(options.image_size, self.sensor_rng)
        self.tables = empty_tables()
        self.logfile = f"synth-{options.seed}-{key.name}"

    def write(self) -> Tables:
        """Simulates frame by frame, then chains the records."""
        self._add_log_and_rig()
        frames = []
        for index in range(self.options.frames):
            frames.append(self._write_frame(index))
        for sensor in self.rig:
            channel = self._token("calibrated_sensor", sensor.channel)
            rows = self.tables["sample_data"]
            link([row for row in rows if row["calibrated_sensor_token"] == channel])
        link(self.tables["sample"])
        self._add_scene()
        self._add_annotations(frames)
        return self.tables

    def _token(self, *key: object) -> str:
        return token(self.version, self.options.seed, self.key.name, *key)

    def _stamp(self, time: int) -> int:
        return _FIRST_TIMESTAMP + self.key.number * _SCENE_INTERVAL + time

    def _add_log_and_rig(self) -> None:
        self.tables["log"].append(
            {
                "token": self._token("log"),
                "logfile": self.logfile,
                "vehicle": "synth",
                "date_captured": "2023-11-14",
                "location": self.key.town.name,
            }
        )
        for sensor in self.rig:
            intrinsics = sensor.intrinsics
            self.tables["calibrated_sensor"].append(
                {
                    "token": self._token("calibrated_sensor", sensor.channel),
                    "sensor_token": token("sensor", sensor.channel),
                    "translation": sensor.sensor2ego[:3, 3].tolist(),
                    "rotation": quaternion(sensor.sensor2ego[:3, :3]),
                    "camera_intrinsic": [] if intrinsics is None else intrinsics.tolist(),
                }
            )

    def _add_scene(self) -> None:
        samples = self.tables["sample"]
        self.tables["scene"].append(
            {
                "token": self._token("scene"),
                "log_token": self._token("log"),
                "nbr_samples": len(samples),
                "first_sample_token": samples[0]["token"],
                "last_sample_token": samples[-1]["token"],
                "name": self.key.name,
                "description": f"Synthetic street, split {self.key.split}",
            }
        )

    def _write_frame(self, index: int) -> _Frame:
        jitter = self.sensor_rng.uniform(-_FRAME_JITTER, _FRAME_JITTER)
        time = round(1e6 * (index * FRAME_PERIOD + jitter))
        sample = {"token": self._token("sample", index), "timestamp": self._stamp(time)}
        sample["scene_token"] = self._token("scene")
        self.tables["sample"].append(sample)
        count = len(self.world.actors)
        points, covered, visible = (np.zeros(count, dtype=np.int64) for _ in range(3))
        for sensor in self.rig:
            if sensor.is_camera:
                jitter = self.sensor_rng.uniform(-_CAMERA_JITTER, _CAMERA_JITTER)
                trigger = time - max(round(1e6 * (sensor.lead + jitter)), 0)
                picture = self._write_image(sensor, index, trigger)
                covered += picture.covered
                visible += picture.visible
            else:
                owner = self._write_sweep(sensor, index, time).owner
                points += np.bincount(owner[owner >= 0], minlength=count)
        return _Frame(time, points, covered, visible)

    def _add_sample_data(self, sensor: Sensor, index: int, time: int, suffix: str) -> dict:
        """Adds the records of one sensor's data, with the ego pose at its own time."""
        name = self._token("sample_data", sensor.channel, index)
        ego2global = self.street2global @ self.world.ego.ego2street(time / 1e6)
        stamp = self._stamp(time)
        self.tables["ego_pose"].append(
            {
                "token": name,
                "timestamp": stamp,
                "rotation": quaternion(ego2global[:3, :3]),
                "translation": ego2global[:3, 3].tolist(),
            }
        )
        width, height = self.options.image_size if sensor.is_camera else (0, 0)
        stem = f"{self.logfile}__{sensor.channel}"
        record = {
            "token": name,
            "sample_token": self._token("sample", index),
            "ego_pose_token": name,
            "calibrated_sensor_token": self._token("calibrated_sensor", sensor.channel),
            "timestamp": stamp,
            "fileformat": "jpg" if sensor.is_camera else "pcd",
            "is_key_frame": True,
            "height": height,
            "width": width,
            "filename": f"samples/{sensor.channel}/{stem}__{stamp}{suffix}",
        }
        self.tables["sample_data"].append(record)
        return record

    def _write_image(self, sensor: Sensor, index: int, time: int) -> Picture:
        world, seconds = self.world, time / 1e6
        parts = Parts.concatenate([world.parts_at(seconds), world.shadows_at(seconds)])
        cam2street = world.ego.ego2street(seconds) @ sensor.sensor2ego
        view = View(cam2street, sensor.intrinsics, self.options.image_size)
        top, left = self.noise_rng.integers(0, _NOISE_PAD, size=2)
        width, height = self.options.image_size
        noise = self.noise[top : top + height, left : left + width]
        picture = render(view, parts, world.street, world.light, noise, len(world.actors))
        record = self._add_sample_data(sensor, index, time, ".jpg")
        path = os.path.join(self.root, record["filename"])
        Image.fromarray(picture.image).save(path, quality=_JPEG_QUALITY)
        return picture

    def _write_sweep(self, sensor: Sensor, index: int, time: int) -> Sweep:
        seconds = time / 1e6
        lidar2street = self.world.ego.ego2street(seconds) @ sensor.sensor2ego
        sweep = scan(
            self.world.parts_at(seconds),
            self.world.street,
            lidar2street,
            self.options.lidar_azimuths,
            self.sensor_rng,
        )
        record = self._add_sample_data(sensor, index, time, ".pcd.bin")
        sweep.points.tofile(os.path.join(self.root, record["filename"]))
        name = f"lidarseg/{self.version}/{record['token']}_lidarseg.bin"
        sweep.labels.tofile(os.path.join(self.root, name))
        self.tables["lidarseg"].append(
            {"token": record["token"], "sample_data_token": record["token"], "filename": name}
        )
        return sweep

    def _add_annotations(self, frames: list[_Frame]) -> None:
        """Each actor from the first to the last frame where it has a lidar point or a pixel."""
        points = np.stack([frame.points for frame in frames])
        covered = np.stack([frame.covered for frame in frames])
        visible = np.stack([frame.visible for frame in frames])
        poses = np.stack([self.world.poses_at(f.time / 1e6) for f in frames])
        for actor in range(len(self.world.actors)):
            seen = np.flatnonzero((points[:, actor] > 0) | (visible[:, actor] > 0))
            if not len(seen):
                continue
            chain = []
            for index in range(seen[0], seen[-1] + 1):
                share = visible[index, actor] / max(covered[index, actor], 1)
                record = self._annotation(actor, index, poses[index, actor], frames[index].time)
                record["visibility_token"] = catalog.visibility_token(share)
                record["num_lidar_pts"] = int(points[index, actor])
                chain.append(record)
            link(chain)
            self.tables["sample_annotation"].extend(chain)
            self.tables["instance"].append(
                {
                    "token": self._token("instance", actor),
                    "category_token": token("category", self.world.actors[actor].category),
                    "nbr_annotations": len(chain),
                    "first_annotation_token": chain[0]["token"],
                    "last_annotation_token": chain[-1]["token"],
                }
            )

    def _annotation(self, index: int, frame: int, pose: np.ndarray, time: int) -> dict:
        actor = self.world.actors[index]
        length, width, height = actor.size
        x, y, heading = pose
        center = self.street2global @ (x, y, CLEARANCE + height / 2, 1.0)
        rotation = self.street2global[:3, :3] @ rotation_z(heading)
        attribute = actor.attribute(time / 1e6)
        return {
            "token": self._token("sample_annotation", index, frame),
            "sample_token": self._token("sample", frame),
            "instance_token": self._token("instance", index),
            "visibility_token": "",
            "attribute_tokens": [token("attribute", attribute)] if attribute else [],
            "translation": center[:3].tolist(),
            "size": [width, length, height],
            "rotation": quaternion(rotation),
            "num_lidar_pts": 0,
            "num_radar_pts": 0,
        }
