"""Rig files: the cameras of a vehicle in a JSON or YAML file that users write by hand.

Example::

    reference_camera: front           # boxes are in ego at its time; default: the first camera
    cameras:
      front:
        size: [800, 600]              # width, height of its images, pixels
        intrinsics: {fx: 560, fy: 560, cx: 400, cy: 300}        # pixels; or a 3 x 3 matrix
        cam2ego: {translation: [1.5, 0, 1.6], yaw: 0, pitch: 0, roll: 0}

``cam2ego`` maps camera points (x right, y down, z forward) to ego (x forward, y left, z up). It is
a 4 x 4 matrix, or a ``translation`` (position of the camera, metres) with one of

- ``rotation``: a unit quaternion w, x, y, z, as in nuScenes' ``calibrated_sensor.json``;
- ``yaw``, ``pitch``, ``roll``: rotation of the camera to the left, downward, and clockwise as seen
  from behind, degrees. All 0: the camera faces forward.

A camera whose images are not rectified has its raw intrinsics and a lens, see
:class:`fsdbev.structures.Lens`::

        distortion: {model: fisheye, coefficients: [0.02, -0.003, 0.001, 0]}

Its images are rectified when they are read. Rectified images keep the intrinsics, or have those
that OpenCV derives for ``balance: 0`` to ``1`` (see ``rectify.rectified_intrinsics``), or the
stated ``rectified_intrinsics``.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pyquaternion import Quaternion

from fsdbev.data.index.records import Frame
from fsdbev.structures import CAMERA_AXES, Lens, Rig
from fsdbev.utils.atomic_write import atomic_write
from fsdbev.utils.plain_file import read_bytes
from fsdbev.utils.plain_yaml import check_keys, parse_yaml

from .rectify import rectified_intrinsics

_YAML_ENDINGS = (".yaml", ".yml")
#: Accepted difference of a quaternion's length from 1, for values rounded in a text file.
_QUATERNION_TOLERANCE = 1e-3
_FILE_KEYS, _CAMERA_KEYS = {"reference_camera", "cameras"}, {"size", "intrinsics", "cam2ego"}
_LENS_KEYS, _RECTIFIED_KEYS = {"model", "coefficients"}, {"balance", "rectified_intrinsics"}
_ANGLES = ("yaw", "pitch", "roll")
_MAX_BYTES = 1 << 20
#: Formats values for error messages: a 4 x 4 matrix in full, larger values abbreviated.
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist = 3, 4


def read_rig(path: str | os.PathLike) -> Rig:
    """Reads a rig from a ``.json``, ``.yaml`` or ``.yml`` file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file can't be parsed, has missing or unknown keys, or has invalid values;
            the message names the file and the camera.
    """
    path = Path(path)
    try:
        text = read_bytes(path, _MAX_BYTES, "there is no such rig file").decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a rig file must be UTF-8 text ({error})") from error
    try:
        return _rig(_parse(path, text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def rig_content(rig: Rig) -> dict[str, Any]:
    """Returns the content of a rig file as plain Python values."""
    cameras = {name: _camera_content(rig, i) for i, name in enumerate(rig.channels)}
    return {"reference_camera": rig.channels[rig.reference_camera], "cameras": cameras}


def _camera_content(rig: Rig, camera: int) -> dict[str, Any]:
    intrinsics, lens = rig.intrinsics[camera].tolist(), rig.lens(camera)
    content = {
        "size": list(rig.image_sizes[camera]),
        "intrinsics": intrinsics if lens is None else lens.intrinsics.tolist(),
        "cam2ego": rig.cam2ego[camera].tolist(),
    }
    if lens is not None:
        content["distortion"] = {
            "model": lens.model,
            "coefficients": list(lens.coefficients),
            "rectified_intrinsics": intrinsics,
        }
    return content


def write_rig(rig: Rig, path: str | os.PathLike) -> None:
    """Writes a rig to a YAML file atomically; :func:`read_rig` returns the same rig.

    Raises:
        ValueError: the name does not end in ``.yaml`` or ``.yml``.
        OSError: the file can't be written.
    """
    path = Path(path)
    if path.suffix not in _YAML_ENDINGS:
        raise ValueError(f"{path}: a rig is written as {' or '.join(_YAML_ENDINGS)}")
    content = yaml.safe_dump(rig_content(rig), sort_keys=False, default_flow_style=None)
    with atomic_write(path) as file:
        file.write(content.encode())


def rig_of_frame(frame: Frame) -> Rig:
    """Returns the rig of a sample of a frame index."""
    return Rig(
        channels=frame.channels,
        image_sizes=tuple((int(width), int(height)) for width, height in frame.image_sizes),
        intrinsics=torch.tensor(frame.intrinsics),
        cam2ego=torch.tensor(frame.cam2ego),
        reference_camera=frame.reference_camera,
        lenses=frame.lenses,
    )


def _parse(path: Path, text: str) -> Any:
    if path.suffix not in (".json", *_YAML_ENDINGS):
        raise ValueError("a rig file ends in .json, .yaml or .yml")
    if path.suffix in _YAML_ENDINGS:
        return parse_yaml(text)
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError(f"can't be parsed: {error}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json.loads keeps the last of several equal keys without an error.
    check_keys(name for name, _ in pairs)
    return dict(pairs)


def _rig(data: Any) -> Rig:
    data = _mapping(data, "the file", needed={"cameras"}, known=_FILE_KEYS)
    cameras = _mapping(data["cameras"], "cameras")
    channels = tuple(map(str, cameras))
    if not channels:
        raise ValueError("cameras is empty; name at least one camera")
    reference = data.get("reference_camera", channels[0])
    if reference not in channels:
        raise ValueError(
            f"reference_camera is {_REPR.repr(reference)}, cameras are {', '.join(channels)}"
        )
    found = [_camera(name, camera) for name, camera in cameras.items()]
    sizes, intrinsics, lenses, cam2ego = zip(*found, strict=True)
    return Rig(
        channels=channels,
        image_sizes=sizes,
        intrinsics=torch.from_numpy(np.stack(intrinsics)),
        cam2ego=torch.from_numpy(np.stack(cam2ego)),
        reference_camera=channels.index(reference),
        lenses=lenses,
    )


def _camera(
    name: str, camera: Any
) -> tuple[tuple[int, int], NDArray[np.float64], Lens | None, NDArray[np.float64]]:
    """Returns image size, intrinsics of rectified images, lens and cam2ego of a camera."""
    where = f"camera {name!r}"
    camera = _mapping(camera, where, needed=_CAMERA_KEYS, known=_CAMERA_KEYS | {"distortion"})
    width, height = _numbers(camera["size"], (2,), f"{where}: size").tolist()
    if width != int(width) or height != int(height):
        raise ValueError(f"{where}: size must be two whole numbers, got {width}, {height}")
    size, lens = (int(width), int(height)), None
    intrinsics = _intrinsics(camera["intrinsics"], f"{where}: intrinsics")
    if "distortion" in camera:
        intrinsics, lens = _lens(camera["distortion"], intrinsics, size, f"{where}: distortion")
    return size, intrinsics, lens, _cam2ego(camera["cam2ego"], f"{where}: cam2ego")


def _lens(
    value: Any, raw: NDArray[np.float64], size: tuple[int, int], where: str
) -> tuple[NDArray[np.float64], Lens]:
    """Returns the intrinsics of rectified images, and the lens of raw ones."""
    value = _mapping(value, where, needed=_LENS_KEYS, known=_LENS_KEYS | _RECTIFIED_KEYS)
    if set(value) >= _RECTIFIED_KEYS:
        raise ValueError(f"{where} has a balance and rectified_intrinsics; remove one of them")
    coefficients, balance = value["coefficients"], value.get("balance")
    if not isinstance(coefficients, list):
        raise ValueError(
            f"{where}: coefficients must be a list of numbers, got {_REPR.repr(coefficients)}"
        )
    coefficients = _numbers(coefficients, (len(coefficients),), f"{where}: coefficients").tolist()
    if balance is not None:
        balance = float(_numbers(balance, (), f"{where}: balance"))
    try:
        lens = Lens(value["model"], raw, coefficients)
        rectified = rectified_intrinsics(lens, size, balance)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if "rectified_intrinsics" in value:
        rectified = _intrinsics(value["rectified_intrinsics"], f"{where}: rectified_intrinsics")
    return rectified, lens


def _intrinsics(value: Any, where: str) -> NDArray[np.float64]:
    if not isinstance(value, Mapping):
        return _numbers(value, (3, 3), where)
    names = ("fx", "fy", "cx", "cy")
    value = _mapping(value, where, needed=set(names), known=set(names))
    fx, fy, cx, cy = (float(_numbers(value[name], (), f"{where}: {name}")) for name in names)
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _cam2ego(value: Any, where: str) -> NDArray[np.float64]:
    if not isinstance(value, Mapping):
        return _numbers(value, (4, 4), where)
    known = {"translation", "rotation", *_ANGLES}
    value = _mapping(value, where, needed={"translation"}, known=known)
    if "rotation" in value and set(_ANGLES) & set(value):
        raise ValueError(f"{where} has both a rotation and angles; remove one of them")
    matrix = np.eye(4)
    matrix[:3, 3] = _numbers(value["translation"], (3,), f"{where}: translation")
    if "rotation" in value:
        matrix[:3, :3] = _from_quaternion(value["rotation"], f"{where}: rotation")
    else:
        angles = (float(_numbers(value.get(a, 0), (), f"{where}: {a}")) for a in _ANGLES)
        matrix[:3, :3] = _from_angles(*angles)
    return matrix


def _from_quaternion(value: Any, where: str) -> NDArray[np.float64]:
    rotation = _numbers(value, (4,), where)
    length = np.linalg.norm(rotation)
    if abs(length - 1) > _QUATERNION_TOLERANCE:
        raise ValueError(
            f"{where} {rotation.tolist()} has length {length:.4g}; it must be a unit quaternion "
            "w, x, y, z"
        )
    # rotation_matrix normalises the quaternion.
    return Quaternion(rotation).rotation_matrix


def _from_angles(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Returns the rotation camera -> ego; angles are degrees to the left, down and clockwise."""
    left = Quaternion(axis=(0, 0, 1), degrees=yaw)
    down = Quaternion(axis=(0, 1, 0), degrees=pitch)
    clockwise = Quaternion(axis=(1, 0, 0), degrees=roll)
    return (left * down * clockwise).rotation_matrix @ np.array(CAMERA_AXES)


def _mapping(
    value: Any, where: str, needed: set[str] = frozenset(), known: set[str] | None = None
) -> Mapping[str, Any]:
    """Checks that ``value`` is a mapping with all ``needed`` and only ``known`` keys."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a mapping of names to values, got {_REPR.repr(value)}")
    missing, unknown = needed - set(value), set(value) - (known or set(value))
    if missing:
        raise ValueError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown:
        raise ValueError(
            f"{where} has unknown keys {', '.join(sorted(map(str, unknown)))}; known keys are "
            f"{', '.join(sorted(known))}"
        )
    return value


def _numbers(value: Any, shape: tuple[int, ...], where: str) -> NDArray[np.float64]:
    # Python integers have no limit and may overflow float64.
    with suppress(OverflowError):
        if _has_shape(value, shape) and np.isfinite(numbers := np.array(value, np.float64)).all():
            return numbers
    count = " x ".join(map(str, shape)) or "one"
    raise ValueError(f"{where} must be {count} finite numbers, got {_REPR.repr(value)}")


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    """Returns whether ``value`` consists of numbers in nested lists of this shape."""
    if not shape:
        # bool is a subclass of int.
        return isinstance(value, int | float) and not isinstance(value, bool)
    rows = isinstance(value, list) and len(value) == shape[0]
    return rows and all(_has_shape(row, shape[1:]) for row in value)
