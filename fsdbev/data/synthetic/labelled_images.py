"""Images of a scene with 2D boxes, classes and masks of the objects, in nuImages' format.

nuImages (nuscenes.org/nuimages) labels single images. Here each camera image is a sample of its
own, without LiDAR and other frames.
"""

from __future__ import annotations

import base64
import os

import numpy as np
from pycocotools import mask as coco_mask

from .catalog import ATTRIBUTES, CATEGORIES
from .crowd import Actor
from .options import SPLITS, SyntheticOptions
from .scene import SceneKey, draw_noise, photograph, write_jpeg
from .sensor_rig import CAMERA_SPECS, Sensor, draw_rig
from .table_writer import Tables, quaternion, token
from .world import build_world

#: Split of the scenes -> nuImages' version, which is the folder of its tables.
VERSIONS = dict(zip(SPLITS, ("v1.0-train", "v1.0-val"), strict=True))
_TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "log",
    "object_ann",
    "sample",
    "sample_data",
    "sensor",
    "surface_ann",
)
#: nuImages' 25 categories: those of objects, and of the driveable surface.
_CATEGORIES = tuple(
    name for name in CATEGORIES if not name.startswith(("noise", "flat.", "static."))
) + ("flat.driveable_surface",)
#: Objects with fewer visible pixels have no annotation.
_MIN_PIXELS = 12


def image_tables() -> Tables:
    """Returns new tables with the records that are the same for every data set."""
    tables: Tables = {name: [] for name in _TABLES}
    for table, names in (("category", _CATEGORIES), ("attribute", ATTRIBUTES)):
        tables[table] = [
            {"token": token(table, name), "name": name, "description": ""} for name in names
        ]
    tables["sensor"] = [
        {"token": token("sensor", s.channel), "channel": s.channel, "modality": "camera"}
        for s in CAMERA_SPECS
    ]
    return tables


def write_images(root: str, options: SyntheticOptions, key: SceneKey) -> Tables:
    """Renders the images of a scene and returns their records.

    Args:
        root: data root; file names in the records are relative to it.
        options: options of the data set.
        key: scene to write.
    """
    world = build_world(options, key.generator(options.seed, "world"))
    noise_rng = key.generator(options.seed, "noise")
    noise = draw_noise(options.image_size, noise_rng)
    sensors = draw_rig(options.image_size, key.generator(options.seed, "sensors"), options.fisheye)
    cameras = [sensor for sensor in sensors if sensor.is_camera]
    tables: Tables = {name: [] for name in _TABLES}
    logfile = f"synth-{options.seed}-{key.name}"
    log = token("nuimages", logfile)
    tables["log"].append(
        {
            "token": log,
            "logfile": logfile,
            "vehicle": "synth",
            "date_captured": "2023-11-14",
            "location": key.town.name,
        }
    )
    for camera in cameras:
        tables["calibrated_sensor"].append(_calibration(camera, log))
    for index in range(options.frames):
        seconds = index / options.rate
        for camera in cameras:
            picture = photograph(world, camera, seconds, options.image_size, noise.crop(noise_rng))
            filename = f"samples/{camera.channel}/{logfile}__{camera.channel}__{index}.jpg"
            write_jpeg(picture.image, os.path.join(root, filename))
            image = _add_image(tables, options, log, camera.channel, filename, seconds)
            pose = world.ego.ego2street(seconds)
            tables["ego_pose"].append(
                {
                    "token": image,
                    "timestamp": round(1e6 * seconds),
                    "rotation": quaternion(pose[:3, :3]),
                    "translation": pose[:3, 3].tolist(),
                }
            )
            for number in np.flatnonzero(picture.visible >= _MIN_PIXELS).tolist():
                actor, mask = world.actors[number], picture.owner == number
                tables["object_ann"].append(_annotation(actor, number, mask, image, seconds))
    return tables


def _calibration(camera: Sensor, log: str) -> dict:
    return {
        "token": token(log, camera.channel),
        "sensor_token": token("sensor", camera.channel),
        "translation": camera.sensor2ego[:3, 3].tolist(),
        "rotation": quaternion(camera.sensor2ego[:3, :3]),
        "camera_intrinsic": camera.intrinsics.tolist(),
        "camera_distortion": list(camera.lens.coefficients) if camera.lens else [],
    }


def _add_image(
    tables: Tables,
    options: SyntheticOptions,
    log: str,
    channel: str,
    filename: str,
    seconds: float,
) -> str:
    """Adds the records of a sample and of its only image; returns the token of both."""
    image = token("nuimages", filename)
    timestamp = round(1e6 * seconds)
    tables["sample"].append(
        {"token": image, "timestamp": timestamp, "log_token": log, "key_camera_token": image}
    )
    tables["sample_data"].append(
        {
            "token": image,
            "sample_token": image,
            "ego_pose_token": image,
            "calibrated_sensor_token": token(log, channel),
            "timestamp": timestamp,
            "fileformat": "jpg",
            "is_key_frame": True,
            "width": options.image_size[0],
            "height": options.image_size[1],
            "filename": filename,
            "prev": "",
            "next": "",
        }
    )
    return image


def _annotation(actor: Actor, number: int, mask: np.ndarray, image: str, seconds: float) -> dict:
    """Returns the object_ann record of an object in an image.

    Args:
        actor: the object.
        number: its index in its world.
        mask: (H, W) bool, its visible pixels.
        image: token of the image.
        seconds: time of the image from scene start.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    attribute = actor.attribute(seconds)
    return {
        "token": token(image, number),
        "sample_data_token": image,
        # xmin, ymin, xmax, ymax in pixels
        "bbox": [int(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)],
        "mask": {
            "size": encoded["size"],
            "counts": base64.b64encode(encoded["counts"]).decode(),
        },
        "category_token": token("category", actor.category),
        "attribute_tokens": [token("attribute", attribute)] if attribute else [],
    }
