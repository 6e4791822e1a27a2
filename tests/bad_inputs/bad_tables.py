"""Bad nuScenes tables, read by a preparation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from bad_theme import Theme
from data_root import VERSION, DataRoot

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.nuscenes.tables import TableError
from fsdbev.structures import ClassSet

THEME = Theme(
    "nuScenes tables",
    "Read by `tools/prepare_nuscenes.py`, which writes nothing after an error. `TableError` is a "
    "`ValueError`.",
    on_data_set=True,
)


def prepare(folder: Path, change: Callable[[DataRoot], object]) -> FrameIndex:
    """Prepares the data set after a change of its tables."""
    root = DataRoot(folder / "data")
    change(root)
    return root.prepare().index


def with_content(folder: Path, table: str, content: bytes) -> FrameIndex:
    return prepare(folder, lambda root: root.write(f"{VERSION}/{table}.json", content))


def with_records(folder: Path, table: str, change: Callable[[list[dict]], object]) -> FrameIndex:
    """Prepares the data set after ``change`` has modified the records of a table in place."""
    records = DataRoot(folder / "data").table(table)
    change(records)
    return prepare(folder, lambda root: root.write_table(table, records))


def with_fields(folder: Path, table: str, **fields) -> FrameIndex:
    """Prepares the data set with these fields in all records of a table."""
    return prepare(folder, lambda root: root.change_all(table, **fields))


@THEME.refused("a missing table", "v1.0-synth: missing ego_pose.json; unpack", FileNotFoundError)
def _(folder):
    prepare(folder, lambda root: (root.tables / "ego_pose.json").unlink())


for name, content in (
    ("empty", b""),
    ("truncated", b'[{"token": "a", "name'),
    ("not UTF-8", b'["\xff\xfe"]'),
    ("nested 100000 deep", b"[" * 100_000),
    ("a web page", b"<!DOCTYPE html>"),
):
    THEME.refused(name, "instance.json: is not valid JSON (…); correct it, or unpack", TableError)(
        lambda folder, content=content: with_content(folder, "instance", content)
    )


@THEME.refused(
    "a table that is not a list", "instance.json: must be a list of records, got …", TableError
)
def _(folder):
    with_content(folder, "instance", b'{"a": 1}')


@THEME.refused("a key missing", "instance.json: record 0 lacks category_token; …", TableError)
def _(folder):
    with_content(folder, "instance", b'[{"token": "a"}]')


@THEME.refused(
    "the same token twice", "ego_pose.json: record 1: token '…' appears twice", TableError
)
def _(folder):
    with_records(folder, "ego_pose", lambda records: records.insert(1, records[0]))


@THEME.refused(
    "a token that is not text", "ego_pose.json: record 0: token [1] is not a string", TableError
)
def _(folder):
    with_records(folder, "ego_pose", lambda records: records[0].update(token=[1]))


@THEME.refused("an empty table", "has no record '…', which another table refers to", TableError)
def _(folder):
    with_content(folder, "ego_pose", b"[]")


for table, field, target in (
    ("sample_data", "ego_pose_token", "ego_pose"),
    ("sample_annotation", "instance_token", "instance"),
):
    THEME.refused(
        f"a reference to a missing record ({field})",
        f"{target}.json: has no record 'nowhere', which another table refers to; …",
        TableError,
    )(lambda folder, table=table, field=field: with_fields(folder, table, **{field: "nowhere"}))

for name, rotation in (
    ("of length 0", [0, 0, 0, 0]),
    ("of length 2", [2, 0, 0, 0]),
    ("NaN", [float("nan"), 0, 0, 0]),
    ("of three numbers", [1, 0, 0]),
):
    THEME.refused(
        f"a quaternion {name}",
        "calibrated_sensor.json: record …: rotation … must be a unit quaternion, has length …",
        TableError,
    )(lambda folder, value=rotation: with_fields(folder, "calibrated_sensor", rotation=value))


@THEME.handled("a quaternion with a rounding error below 0.01", "it is normalized")
def _(folder):
    index = with_fields(folder, "ego_pose", rotation=[1.004, 0, 0, 0])
    assert np.array_equal(index[0].ego2global[0][:3, :3], np.eye(3))


@THEME.refused(
    "a translation that is not finite",
    "ego_pose.json: record …: translation … must be three finite numbers; …",
    TableError,
)
def _(folder):
    with_fields(folder, "ego_pose", translation=[0, float("inf"), 0])


@THEME.refused(
    "intrinsics with a NaN", "calibrated_sensor.json: record …: camera_intrinsic …", TableError
)
def _(folder):
    with_fields(folder, "calibrated_sensor", camera_intrinsic=[[float("nan")] * 3] * 3)


@THEME.refused("intrinsics with a focal length of 0", "(row 0): calibration is not of a …")
def _(folder):
    with_fields(folder, "calibrated_sensor", camera_intrinsic=[[0, 0, 9], [0, 9, 9], [0, 0, 1]])


@THEME.refused("a circular chain of samples", "sample.json: …its chain of samples", TableError)
def _(folder):
    def tie(records):
        for record in records:
            record["next"] = record["prev"] or record["token"]
            record["prev"] = ""

    with_records(folder, "sample", tie)


@THEME.refused("a clock that stands still", "sample.json: … is not later than …", TableError)
def _(folder):
    with_fields(folder, "sample", timestamp=5)


@THEME.refused("a time that is text", "sample…: malformed record (TypeError: …", TableError)
def _(folder):
    def as_text(records):
        for record in records:
            record["timestamp"] = str(record["timestamp"])

    with_records(folder, "sample", as_text)


@THEME.handled("an object of unknown velocity (NaN in nuScenes)", "its velocity is set to 0")
def _(folder):
    index = with_fields(folder, "sample_annotation", prev="", next="")
    assert not index.annotations(0).velocity.any()


@THEME.refused("a box of size 0", "sample '…' (row 0): box sizes (l, w, h) must be positive, got")
def _(folder):
    with_fields(folder, "sample_annotation", size=[0, 0, 0])


@THEME.refused(
    "a category that is not in nuScenes",
    "category.json: neither nuScenes nor a class has the category vehicle.Car; … --background",
    TableError,
)
def _(folder):
    def rename(records):
        next(r for r in records if r["name"] == "vehicle.car")["name"] = "vehicle.Car"

    with_records(folder, "category", rename)


@THEME.refused(
    "classes with a category that exists nowhere",
    "class 'car' has the category 'vehicle.Car', which is neither … the nearest is 'vehicle.car'",
)
def _(folder):
    classes = ClassSet(names=["car"], categories={"car": ["vehicle.Car"]})
    DataRoot(folder / "data").prepare(classes=classes)


@THEME.refused(
    "a category as background that belongs to a class",
    "category 'vehicle.car' is named as background, but belongs to the class 'car'; …",
)
def _(folder):
    DataRoot(folder / "data").prepare(background=["vehicle.car"])


@THEME.refused(
    "an output folder with files of other classes",
    "synth_train.arrow has classes ['vehicle'], but this preparation (--classes) has ['car', … "
    "choose another folder with --output",
)
def _(folder):
    root = DataRoot(folder / "data")
    root.prepare(classes=ClassSet(names=["vehicle"], categories={"vehicle": ["vehicle.car"]}))
    root.prepare()


@THEME.refused(
    "a split of splits.json with the name of an official one",
    "splits.json: 'val' is an official split of nuScenes; choose another name",
    TableError,
)
def _(folder):
    prepare(folder, lambda root: root.write(f"{VERSION}/splits.json", b'{"val": []}'))


@THEME.refused(
    "an unknown name in --scenes",
    "v1.0-synth has no scene 'scene-0002'; the nearest name is 'scene-0001' (--scenes takes …",
)
def _(folder):
    DataRoot(folder / "data").prepare(scenes=["scene-0002"], split_name="few")


@THEME.refused(
    "--scenes without --split-name",
    "--scenes (at least one) and --split-name, … need each other, …",
)
def _(folder):
    DataRoot(folder / "data").prepare(scenes=["scene-0001"])


@THEME.refused(
    "a missing image",
    "CAM_BACK/…jpg: no such file (missing files of synth_train: 1, incomplete scenes: 1); … the "
    "file belongs to scene-0001: … use --skip-incomplete or choose scenes with --scenes",
    FileNotFoundError,
)
def _(folder):
    root = DataRoot(folder / "data")
    (root.path / root.sensor_data(root.first_sample(), "CAM_BACK")["filename"]).unlink()
    root.prepare()


@THEME.refused(
    "damaged images",
    "synth_train.arrow: 1 of its images can't be used; fetch them again, or leave out their scenes "
    "(…--scenes). …scene-0001: …CAM_BACK/…jpg: can't be decoded (…); fetch it again",
)
def _(folder):
    root = DataRoot(folder / "data")
    name = root.sensor_data(root.first_sample(), "CAM_BACK")["filename"]
    root.write(name, (root.path / name).read_bytes()[:-99])
    root.prepare()


for name, fields, outcome in (
    (
        "six coefficients, as in nuImages",
        {"camera_distortion": [0.1] * 6},
        "nuImages has six coefficients, for images that are rectified already; …",
    ),
    (
        "an unknown model",
        {"camera_distortion": [0.1] * 4, "camera_lens": "equidistant"},
        "a lens model is radial_tangential or fisheye, got 'equidistant'; …",
    ),
    ("no coefficients of a fish eye", {"camera_lens": "fisheye"}, "a fisheye lens has 4 …, got 0"),
):
    message = f"calibrated_sensor.json: record …: {outcome}"
    THEME.refused(f"a lens with {name}", message, TableError)(
        lambda folder, fields=fields: with_fields(folder, "calibrated_sensor", **fields)
    )


@THEME.refused("--balance without a lens", "--balance 0.5 has no effect: no record of …")
def _(folder):
    DataRoot(folder / "data").prepare(balance=0.5)


@THEME.refused(
    "a file outside of the data root", "(row 0): file '/etc/passwd' must be relative and"
)
def _(folder):
    with_fields(folder, "sample_data", filename="/etc/passwd")


@THEME.refused(
    "an image width that does not fit 32 bits",
    "sample '…' (row 0): image_sizes must be integers that fit int32, got …",
)
def _(folder):
    with_fields(folder, "sample_data", width=2**32 + 160)
