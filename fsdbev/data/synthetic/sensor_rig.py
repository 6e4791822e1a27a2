"""Sensor rig: six cameras and a lidar with calibration and trigger times like those of nuScenes.

Frames: camera x right, y down, z forward; ego x forward, y left, z up, origin on the ground.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from fsdbev.structures import CAMERA_AXES, Lens

from .trajectory import rotation_x, rotation_z

LIDAR = "LIDAR_TOP"
#: (width, height) to which the intrinsics in ``CAMERA_SPECS`` refer, pixels.
_REFERENCE_SIZE = (1600, 900)


@dataclass(frozen=True)
class CameraSpec:
    """Nominal calibration of a camera.

    Attributes:
        channel: name of the sensor.
        yaw: angle of the optical axis from the ego x axis, degrees, positive to the left.
        position: (x, y, z) in the ego frame, metres.
        focal: focal length at 1600 x 900, pixels.
        center: principal point at 1600 x 900, pixels.
        lead: time from the trigger of the camera to that of the lidar, seconds.
    """

    channel: str
    yaw: float
    position: tuple[float, float, float]
    focal: float
    center: tuple[float, float]
    lead: float


#: In the firing order of nuScenes, whose cameras follow the turn of the lidar.
CAMERA_SPECS = (
    CameraSpec("CAM_FRONT_LEFT", 55.2, (1.52, 0.49, 1.51), 1272.6, (826.6, 479.8), 0.0431),
    CameraSpec("CAM_FRONT", 0.3, (1.70, 0.02, 1.51), 1266.4, (816.3, 491.5), 0.0355),
    CameraSpec("CAM_FRONT_RIGHT", -56.4, (1.55, -0.49, 1.50), 1260.8, (808.0, 495.3), 0.0276),
    CameraSpec("CAM_BACK_RIGHT", -110.8, (1.02, -0.48, 1.56), 1259.5, (807.3, 501.2), 0.0200),
    CameraSpec("CAM_BACK", 179.9, (0.03, 0.00, 1.58), 809.2, (829.2, 481.8), 0.0104),
    CameraSpec("CAM_BACK_LEFT", 108.6, (1.04, 0.48, 1.59), 1256.7, (792.1, 492.8), 0.0005),
)
_LIDAR_POSITION = (0.944, 0.0, 1.84)
#: Focal length of fisheye cameras at 1600 x 900, pixels: they see about 135 degrees from left to
#: right and 80 degrees from top to bottom.
_FISHEYE_FOCAL = 640.0
#: k1 .. k4 of fisheye cameras. The model is monotonic up to 90 degrees from the optical axis.
_FISHEYE_COEFFICIENTS = (0.04, -0.01, 0.002, -0.0005)


@dataclass(frozen=True)
class Sensor:
    """A calibrated sensor of a vehicle.

    Attributes:
        channel: name of the sensor.
        sensor2ego: (4, 4) pose.
        intrinsics: (3, 3) in pixels; None for the lidar.
        lead: time from the trigger of the sensor to that of the lidar, seconds.
        lens: lens of a fisheye camera, None for the others.
    """

    channel: str
    sensor2ego: np.ndarray
    intrinsics: np.ndarray | None
    lead: float
    lens: Lens | None = None

    @property
    def is_camera(self) -> bool:
        """Whether the sensor is a camera."""
        return self.intrinsics is not None


def draw_rig(
    image_size: tuple[int, int], rng: np.random.Generator, fisheye: Collection[str] = ()
) -> list[Sensor]:
    """Draws the rig of one vehicle: the nominal calibration with small deviations.

    Angles deviate by up to 0.6 degrees (0.5 and 0.8 for the lidar), positions of cameras by up to
    1 cm, focal lengths by up to 0.5 %.

    Args:
        image_size: (width, height) in pixels.
        rng: random generator.
        fisheye: names of the cameras with a fisheye lens.

    Returns:
        The cameras in firing order, then the lidar.
    """
    scale = np.array(image_size) / np.array(_REFERENCE_SIZE)
    sensors = []
    for spec in CAMERA_SPECS:
        yaw, pitch, roll = np.radians((spec.yaw, 0.0, 0.0) + rng.uniform(-0.6, 0.6, size=3))
        rotation = rotation_z(yaw) @ np.array(CAMERA_AXES) @ rotation_x(pitch) @ rotation_z(roll)
        nominal = _FISHEYE_FOCAL if spec.channel in fisheye else spec.focal
        focal = nominal * rng.uniform(0.995, 1.005)
        intrinsics = np.array(
            [
                [focal * scale[0], 0.0, spec.center[0] * scale[0]],
                [0.0, focal * scale[1], spec.center[1] * scale[1]],
                [0.0, 0.0, 1.0],
            ]
        )
        position = np.array(spec.position) + rng.uniform(-0.01, 0.01, size=3)
        lens = None
        if spec.channel in fisheye:
            lens = Lens("fisheye", intrinsics, _FISHEYE_COEFFICIENTS)
        mount = _mount(rotation, position)
        sensors.append(Sensor(spec.channel, mount, intrinsics, spec.lead, lens))
    tilt = rotation_x(np.radians(rng.uniform(-0.8, 0.8)))
    # LIDAR_TOP of nuScenes has x to the right and y forward, -90 degrees from the ego axes.
    lidar = rotation_z(np.radians(-90.0 + rng.uniform(-0.5, 0.5))) @ tilt
    sensors.append(Sensor(LIDAR, _mount(lidar, np.array(_LIDAR_POSITION)), None, 0.0))
    return sensors


def _mount(rotation: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Returns the (4, 4) pose of a (3, 3) rotation and a (3,) position."""
    sensor2ego = np.eye(4)
    sensor2ego[:3, :3] = rotation
    sensor2ego[:3, 3] = position
    return sensor2ego
