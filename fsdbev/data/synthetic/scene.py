"""Simulation of one scene: writes images and sweeps, returns the records of the nuScenes tables.

Shapes: A actors.

Times follow nuScenes. The time stamp of a sample and of its annotations is that of the lidar. Every
camera triggers up to 44 ms earlier and shows the world, including moving objects, at its own time
and from its own ego pose. The box of a moving object is therefore ahead of its image by the speed
times this lead (0.4 m at 10 m/s), as in nuScenes.
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
from .render import Picture, render_scene
from .sensor_rig import Sensor, draw_rig
from .table_writer import Tables, empty_tables, link, quaternion, token
from .town import TownSlot
from .trajectory import rotation_z
from .view import View
from .world import World, build_world

_JPEG_QUALITY = 92
#: Microseconds since the epoch, 2023-11-14 as in the log table.
_FIRST_TIMESTAMP = 1_700_000_000_000_000
#: Microseconds between the starts of two scenes: scenes of at most 20 s do not overlap in time.
_SCENE_INTERVAL = 100_000_000
#: Maximum deviation of key frames and of camera triggers from their nominal times, seconds.
_FRAME_JITTER, _CAMERA_JITTER = 0.004, 0.0005
#: Standard deviation of the pixel noise, for colours in 0..1.
_IMAGE_NOISE = 0.012
#: Pixels by which the noise field of a scene exceeds an image.
_NOISE_PAD = 61


@dataclass(frozen=True)
class SceneKey:
    """Identity of a scene: its split and its index in the split.

    With the options of the data set it determines the content of the scene.
    """

    split: str
    index: int

    @property
    def number(self) -> int:
        """Number of the scene, which is part of its name and its time stamps."""
        return 1 + self.index + MAX_SCENES * SPLITS.index(self.split)

    @property
    def name(self) -> str:
        """Name of the scene in the scene table."""
        return f"scene-{self.number:04d}"

    @property
    def town(self) -> TownSlot:
        """Place of the scene; no town contains scenes of two splits."""
        return TownSlot.of(self.split, self.index)

    def generator(self, seed: int, stream: str) -> np.random.Generator:
        """Returns the random generator of one stream: "world", "sensors" or "noise"."""
        # Seeded by scene, so that no scene depends on the number of scenes or workers, and by
        # stream, so that the world can be rebuilt without simulating the sensors.
        number = ("world", "sensors", "noise").index(stream)
        return np.random.default_rng([seed, SPLITS.index(self.split), self.index, number])


@dataclass(frozen=True)
class SceneResult:
    """Output of a scene.

    Attributes:
        tables: records of the scene for every table.
        outline: (n, 2) polygons of road and sidewalks for the map, global frame, metres.
    """

    tables: Tables
    outline: list[np.ndarray]


@dataclass(frozen=True)
class _KeyFrameRecord:
    """Sensor measurements of the actors in one key frame.

    Attributes:
        time: time of the lidar, microseconds from scene start.
        points, radar: (A,) numbers of lidar and radar points on each actor.
        covered, visible: (A,) numbers of pixels, summed over the cameras, as in ``Picture``.
    """

    time: int
    points: np.ndarray
    radar: np.ndarray
    covered: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True)
class NoiseField:
    """Pixel noise of a scene, of which every image uses a random crop: cheaper than new noise.

    Attributes:
        field: (H + pad, W + pad, 3) float32, for colours in 0..1.
    """

    field: np.ndarray

    def crop(self, rng: np.random.Generator) -> np.ndarray:
        """Draws the (H, W, 3) noise of an image."""
        top, left = rng.integers(0, _NOISE_PAD, size=2)
        height, width = (side - _NOISE_PAD for side in self.field.shape[:2])
        return self.field[top : top + height, left : left + width]


def draw_noise(image_size: tuple[int, int], rng: np.random.Generator) -> NoiseField:
    """Draws the noise of a scene whose images have ``image_size`` (width, height)."""
    width, height = image_size
    shape = (height + _NOISE_PAD, width + _NOISE_PAD, 3)
    return NoiseField(rng.standard_normal(shape, dtype=np.float32) * _IMAGE_NOISE)


def photograph(
    world: World,
    sensor: Sensor,
    seconds: float,
    image_size: tuple[int, int],
    noise: np.ndarray,
) -> Picture:
    """Renders the image of a camera.

    Args:
        world: world of the scene.
        sensor: camera.
        seconds: time from scene start.
        image_size: (width, height), pixels.
        noise: (H, W, 3) added to the colours in 0..1.
    """
    parts = Parts.concatenate([world.parts_at(seconds), world.shadows_at(seconds)])
    cam2street = world.ego.ego2street(seconds) @ sensor.sensor2ego
    view = View(cam2street, sensor.intrinsics, image_size, sensor.lens)
    return render_scene(view, parts, world.street, world.light, noise, len(world.actors))


def write_jpeg(image: np.ndarray, path: str) -> None:
    """Writes an (H, W, 3) uint8 RGB image."""
    Image.fromarray(image).save(path, quality=_JPEG_QUALITY)


def write_scene(root: str, version: str, options: SyntheticOptions, key: SceneKey) -> SceneResult:
    """Simulates a scene and writes its images, sweeps and lidarseg labels.

    Args:
        root: data root; file names in the records are relative to it.
        version: name of the data set version, part of all tokens.
        options: options of the data set.
        key: scene to write.
    """
    writer = _SceneWriter(root, version, options, key)
    return SceneResult(writer.write(), key.town.outline(writer.world))


class _SceneWriter:
    """State of one scene while it is written. Times are integer microseconds from scene start, the
    unit of nuScenes time stamps."""

    def __init__(self, root: str, version: str, options: SyntheticOptions, key: SceneKey) -> None:
        self.root, self.version, self.options, self.key = root, version, options, key
        self.world: World = build_world(options, key.generator(options.seed, "world"))
        self.street2global = key.town.street2global(self.world)
        self.sensor_rng = key.generator(options.seed, "sensors")
        self.noise_rng = key.generator(options.seed, "noise")
        self.noise = draw_noise(options.image_size, self.noise_rng)
        self.rig = draw_rig(options.image_size, self.sensor_rng, options.fisheye)
        self.tables = empty_tables()
        self.logfile = f"synth-{options.seed}-{key.name}"

    def write(self) -> Tables:
        """Simulates the key frames in order of time, then links the records; returns the tables."""
        self._add_log_and_rig()
        frames = [self._write_frame(index) for index in range(self.options.frames)]
        for sensor in self.rig:
            calibration = self._token("calibrated_sensor", sensor.channel)
            rows = self.tables["sample_data"]
            link([row for row in rows if row["calibrated_sensor_token"] == calibration])
        link(self.tables["sample"])
        self._add_scene()
        self._add_annotations(frames)
        return self.tables

    def _token(self, *key: object) -> str:
        """Returns a token that is unique across scenes, seeds and versions."""
        return token(self.version, self.options.seed, self.key.name, *key)

    def _timestamp(self, time: int) -> int:
        """Converts microseconds from scene start to microseconds since the epoch."""
        return _FIRST_TIMESTAMP + self.key.number * _SCENE_INTERVAL + time

    def _add_log_and_rig(self) -> None:
        """Adds the records of the log and of the calibrated sensors."""
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
            intrinsics, lens = sensor.intrinsics, sensor.lens
            record = {
                "token": self._token("calibrated_sensor", sensor.channel),
                "sensor_token": token("sensor", sensor.channel),
                "translation": sensor.sensor2ego[:3, 3].tolist(),
                "rotation": quaternion(sensor.sensor2ego[:3, :3]),
                "camera_intrinsic": [] if intrinsics is None else intrinsics.tolist(),
            }
            if lens is not None:
                record["camera_distortion"] = list(lens.coefficients)
                record["camera_lens"] = lens.model
            self.tables["calibrated_sensor"].append(record)

    def _add_scene(self) -> None:
        """Adds the scene record; the samples must be complete."""
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

    def _write_frame(self, index: int) -> _KeyFrameRecord:
        """Writes the sensor files of one key frame and adds its sample record."""
        jitter = self.sensor_rng.uniform(-_FRAME_JITTER, _FRAME_JITTER)
        time = round(1e6 * (index / self.options.rate + jitter))
        sample = {"token": self._token("sample", index), "timestamp": self._timestamp(time)}
        sample["scene_token"] = self._token("scene")
        self.tables["sample"].append(sample)
        count = len(self.world.actors)
        points, covered, visible = (np.zeros(count, dtype=np.int64) for _ in range(3))
        for sensor in self.rig:
            if sensor.is_camera:
                jitter = self.sensor_rng.uniform(-_CAMERA_JITTER, _CAMERA_JITTER)
                # Not after the lidar: the sample's time stamp is its latest.
                trigger = time - max(round(1e6 * (sensor.lead + jitter)), 0)
                picture = self._write_image(sensor, index, trigger)
                covered += picture.covered
                visible += picture.visible
            else:
                owner = self._write_sweep(sensor, index, time).owner
                points += np.bincount(owner[owner >= 0], minlength=count)
        return _KeyFrameRecord(time, points, self._count_radar(visible), covered, visible)

    def _count_radar(self, visible: np.ndarray) -> np.ndarray:
        """Draws the (A,) numbers of radar points in worlds with weak returns: 0 for actors without
        a visible pixel. There are no radar files; only annotations contain the numbers."""
        if not self.options.world_kind.weak_returns:
            return np.zeros(len(visible), dtype=np.int64)
        means = [catalog.RADAR_POINTS[actor.class_name] for actor in self.world.actors]
        return self.sensor_rng.poisson(means) * (visible > 0)

    def _add_sample_data(self, sensor: Sensor, index: int, time: int, suffix: str) -> dict:
        """Adds the sample_data and ego_pose records of one sensor at its own time.

        Args:
            sensor: camera or lidar.
            index: key frame.
            time: microseconds from scene start.
            suffix: ending of the file name.

        Returns:
            The sample_data record.
        """
        name = self._token("sample_data", sensor.channel, index)
        ego2global = self.street2global @ self.world.ego.ego2street(time / 1e6)
        timestamp = self._timestamp(time)
        self.tables["ego_pose"].append(
            {
                "token": name,
                "timestamp": timestamp,
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
            "timestamp": timestamp,
            "fileformat": "jpg" if sensor.is_camera else "pcd",
            "is_key_frame": True,
            "height": height,
            "width": width,
            "filename": f"samples/{sensor.channel}/{stem}__{timestamp}{suffix}",
        }
        self.tables["sample_data"].append(record)
        return record

    def _write_image(self, sensor: Sensor, index: int, time: int) -> Picture:
        """Renders and writes the image of a camera at ``time`` and adds its records."""
        noise = self.noise.crop(self.noise_rng)
        size = self.options.image_size
        picture = photograph(self.world, sensor, time / 1e6, size, noise)
        record = self._add_sample_data(sensor, index, time, ".jpg")
        write_jpeg(picture.image, os.path.join(self.root, record["filename"]))
        return picture

    def _write_sweep(self, sensor: Sensor, index: int, time: int) -> Sweep:
        """Simulates and writes the sweep and its lidarseg labels at ``time``, adds the records."""
        seconds = time / 1e6
        lidar2street = self.world.ego.ego2street(seconds) @ sensor.sensor2ego
        sweep = scan(
            self.world.parts_at(seconds),
            self.world.street,
            lidar2street,
            self.options.lidar_azimuths,
            self.sensor_rng,
            self.world.reflectance,
        )
        record = self._add_sample_data(sensor, index, time, ".pcd.bin")
        sweep.points.tofile(os.path.join(self.root, record["filename"]))
        name = f"lidarseg/{self.version}/{record['token']}_lidarseg.bin"
        sweep.labels.tofile(os.path.join(self.root, name))
        self.tables["lidarseg"].append(
            {"token": record["token"], "sample_data_token": record["token"], "filename": name}
        )
        return sweep

    def _add_annotations(self, frames: list[_KeyFrameRecord]) -> None:
        """Adds the instances and annotations of all actors.

        An actor is annotated without gaps from the first to the last key frame in which it has a
        lidar point or a visible pixel. In worlds with weak returns it is annotated in all key
        frames if it has a lidar or radar point in any: the instructions of nuScenes ask for points,
        and its annotators, who saw whole scenes, went on where an object is hidden for a while.
        """
        points = np.stack([frame.points for frame in frames])
        radar = np.stack([frame.radar for frame in frames])
        covered = np.stack([frame.covered for frame in frames])
        visible = np.stack([frame.visible for frame in frames])
        poses = np.stack([self.world.poses_at(f.time / 1e6) for f in frames])
        seen = (points > 0) | (visible > 0)
        if self.options.world_kind.weak_returns:
            seen[:] = ((points > 0) | (radar > 0)).any(axis=0)
        for actor in range(len(self.world.actors)):
            observed = np.flatnonzero(seen[:, actor])
            if not len(observed):
                continue
            chain = []
            for index in range(observed[0], observed[-1] + 1):
                # An actor outside of all images covers no pixel and has visibility 0.
                fraction = visible[index, actor] / max(covered[index, actor], 1)
                record = self._annotation(actor, index, poses[index, actor], frames[index].time)
                record["visibility_token"] = catalog.visibility_token(fraction)
                record["num_lidar_pts"] = int(points[index, actor])
                record["num_radar_pts"] = int(radar[index, actor])
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
        """Returns the sample_annotation record of an actor, without visibility and points.

        Args:
            index: actor.
            frame: key frame.
            pose: (3,) x, y (m) and heading (rad) of the actor, street frame.
            time: microseconds from scene start.
        """
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
            # nuScenes' order: width, length, height.
            "size": [width, length, height],
            "rotation": quaternion(rotation),
            "num_lidar_pts": 0,
            "num_radar_pts": 0,
        }
