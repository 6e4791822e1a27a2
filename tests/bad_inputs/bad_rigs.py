"""Bad rig files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bad_theme import Theme

from fsdbev.data.io.rig_file import read_rig

THEME = Theme("Rig files", "JSON or YAML, see [Your own cameras](own_cameras.md).")
FRONT = {
    "size": [64, 48],
    "intrinsics": {"fx": 50, "fy": 50, "cx": 32, "cy": 24},
    "cam2ego": {"translation": [1, 0, 1.5]},
}


def read(folder: Path, content: str | bytes, name: str = "rig.yaml"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rig(path)


def with_front(**changes) -> str:
    return json.dumps({"cameras": {"front": {**FRONT, **changes}}})


LEVELS = ", ".join(f"&a{k} [{', '.join([f'*a{k - 1}' if k else '9'] * 10)}]" for k in range(12))
MERGES = "\n".join(
    f"a{k}: &a{k} {{{'<<: [' + ', '.join([f'*a{k - 1}'] * 10) + '], ' if k else ''}k{k}: 1}}"
    for k in range(12)
)
TURNED = {"translation": [0, 0, 0]}
LENS = {"model": "fisheye", "coefficients": [0, 0, 0, 0]}
LENS_OF_5 = {**LENS, "coefficients": [0.1] * 5}
HALF_SPHERE = {"size": [400, 48], "distortion": {**LENS, "balance": 1}}
NAMED = "rig.yaml: camera 'front': "
for name, content, message in (
    ("empty", "", "rig.yaml: the file must be a mapping of names to values, got None"),
    ("truncated", "cameras: {front: [", "rig.yaml: can't be parsed: …"),
    ("not UTF-8", b"\xff\xfe", "rig.yaml: a rig file must be UTF-8 text (…)"),
    ("no camera", "cameras: {}", "rig.yaml: cameras is empty; name at least one camera"),
    ("a camera twice", "cameras: {a: 1, a: 2}", "rig.yaml: line 1: a appears twice"),
    ("an unknown key", with_front(focal=3), NAMED[:-2] + " has unknown keys focal; known …"),
    ("a key missing", "cameras: {a: {size: [1, 1]}}", "'a' lacks cam2ego, intrinsics"),
    ("a YAML tag that runs code", "!!python/object/apply:os.system [exit 1]", "can't be parsed"),
    (
        "aliases that expand to 10^12 numbers",
        f"cameras: {{front: {{size: [64, 48], intrinsics: [{LEVELS}], cam2ego: 1}}}}",
        "rig.yaml: can't be parsed: aliases are not allowed",
    ),
    ("merge keys that expand to 10^12 names", MERGES, "rig.yaml: can't be parsed: …"),
    ("a list that contains itself", "cameras: &a [*a]", "can't be parsed: aliases are not allowed"),
    ("nested 100000 deep", "[" * 100_000, "rig.yaml: can't be parsed: …"),
    ("a number of 1000 digits", with_front(size=[64, 10**1000]), "size must be 2 finite numbers"),
    ("images 10^9 pixels wide", with_front(size=[10**9, 48]), "its images have 1000000000 x 48"),
    ("a size of text", with_front(size=["64", 48]), NAMED + "size must be 2 finite numbers, got"),
    ("a boolean instead of a number", with_front(size=[True, 48]), "size must be 2 finite numbers"),
    ("a focal length of 0", with_front(intrinsics={**FRONT["intrinsics"], "fx": 0}), "positive fx"),
    ("a focal length of NaN", with_front(intrinsics=[[float("nan")] * 3] * 3), "3 x 3 finite"),
    ("a ragged matrix", with_front(intrinsics=[[1, 2], [3]]), "must be 3 x 3 finite numbers, got"),
    ("a quaternion too long", with_front(cam2ego={**TURNED, "rotation": [1, 1, 0, 0]}), "length"),
    ("a quaternion of zeros", with_front(cam2ego={**TURNED, "rotation": [0] * 4}), "has length 0;"),
    (
        "a matrix that is not a rotation",
        with_front(cam2ego=[[1, 0, 0, 0]] * 4),
        "must be a rotation",
    ),
    (
        "an unknown lens model",
        with_front(distortion={**LENS, "model": "double sphere"}),
        NAMED + "distortion: a lens model is radial_tangential or fisheye, got 'double sphere'",
    ),
    (
        "a number of coefficients that the lens model does not have",
        with_front(distortion=LENS_OF_5),
        NAMED + "distortion: a fisheye lens has 4 coefficients, got 5: …",
    ),
    (
        "a coefficient of NaN",
        with_front(distortion={**LENS, "coefficients": [float("nan"), 0, 0, 0]}),
        NAMED + "distortion: coefficients must be 4 finite numbers, got …",
    ),
    (
        "a balance of 2",
        with_front(distortion={**LENS, "balance": 2}),
        NAMED + "distortion: the balance of a lens must be within 0..1, got 2.0",
    ),
    (
        "a balance of 1 for a lens that sees 180 degrees",
        with_front(**HALF_SPHERE),
        NAMED
        + "distortion: balance 1.0: OpenCV finds no pinhole camera for the fisheye lens …; use a "
        "smaller balance or none, or correct the coefficients",
    ),
    (
        "both a balance and rectified intrinsics",
        with_front(distortion={**LENS, "balance": 1, "rectified_intrinsics": {}}),
        NAMED[:-2] + ": distortion has a balance and rectified_intrinsics; remove one of them",
    ),
    (
        "distorted intrinsics with a skew",
        with_front(distortion=LENS, intrinsics=[[50, 1, 32], [0, 50, 24], [0, 0, 1]]),
        NAMED + "distortion: intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] …",
    ),
    ("an angle that is infinite", with_front(cam2ego={**TURNED, "yaw": 1e999}), "yaw must be one"),
):
    THEME.refused(name, f"…{message}")(lambda folder, content=content: read(folder, content))


@THEME.refused("a missing file", "rig.yaml: there is no such rig file", FileNotFoundError)
def _(folder):
    read_rig(folder / "rig.yaml")


@THEME.refused("a named pipe", "rig.yaml: is a pipe or a device, a file is needed")
def _(folder):
    os.mkfifo(folder / "rig.yaml")
    read_rig(folder / "rig.yaml")


@THEME.refused("another ending", "rig.txt: a rig file ends in .json, .yaml or .yml")
def _(folder):
    read(folder, with_front(), "rig.txt")


@THEME.refused("two megabytes", "rig.yaml: 2000000 bytes, far more than such a file has (at most …")
def _(folder):
    read(folder, b"#" * 2_000_000)
