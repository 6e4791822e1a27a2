"""Bad sweeps, point labels and index files."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from bad_theme import Theme
from made_rows import data_set, rows, set_item, with_column

from fsdbev.data.index import frame_index as index
from fsdbev.data.index.frame_index import CLASSES_FIELD, INDEX_FORMAT, FrameIndex, write_index
from fsdbev.data.index.index_columns import LENS_NUMBERS, LENS_STRINGS
from fsdbev.data.io.arrow_file import FileFormat, write_table
from fsdbev.data.labels import point_labels
from fsdbev.data.labels.labeller import PointLabeller
from fsdbev.data.labels.point_labels import (
    LABEL_FORMAT,
    PixelPoints,
    PointLabels,
    read_label_header,
    read_point_labels,
    write_point_labels,
)
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

LIDAR = Theme(
    "LiDAR", "Read when point labels are computed, and by `tools/prepare_nuscenes.py --check`."
)
LABELS = Theme("Point labels", "Files of a preparation, read during training.")
INDEX = Theme("Index files", "The frame index of a split, which is checked completely when opened.")

POINTS = np.tile(np.array([5.0, 0, 1, 9, 3], np.float32), (10, 1))
ALL_CAR = {"lidarseg_classes": "[0]"}


def label(folder: Path, sweep: bytes | None, seg: bytes | None = None, **info: str):
    """Computes labels of the first sample, whose sweep and lidarseg files have this content."""
    made = rows(1)
    if seg is not None:
        (folder / "seg.bin").write_bytes(seg)
    lidarseg = "seg.bin" if info else None
    lidar = replace(made[0][0].lidar, path="sweep.bin", lidarseg_path=lidarseg)
    if sweep is not None:
        (folder / "sweep.bin").write_bytes(sweep)
    dataset = data_set(folder, [(replace(made[0][0], lidar=lidar), made[0][1])], **info)
    return PointLabeller(dataset.index, folder)(0)


INTACT = POINTS.tobytes()
for name, sweep, message in (
    ("an empty sweep", b"", "sweep.bin: 0 bytes are not a whole number of points of 5 float32"),
    ("a truncated sweep (not divisible by 20 bytes)", INTACT[:-7], "193 bytes are not a whole"),
    (
        "points that are NaN or infinite",
        np.array([[1, np.nan, 0, 0, 0], [np.inf, 0, 0, 0, 0]], np.float32).tobytes(),
        "sweep.bin: 2 of 2 points are not finite; the file is damaged, fetch it again",
    ),
):
    LIDAR.refused(name, f"…{message}…")(lambda folder, sweep=sweep: label(folder, sweep))


@LIDAR.refused("a missing sweep", "sweep.bin: no such file; unpack the archive", FileNotFoundError)
def _(folder):
    label(folder, None)


@LIDAR.refused("a named pipe in place of a sweep", "sweep.bin: is a pipe or a device, a file is")
def _(folder):
    os.mkfifo(folder / "sweep.bin")
    label(folder, None)


@LIDAR.handled("points 10^30 m away", "dropped, because labels store depths below 256 m")
def _(folder):
    cameras, _ = label(folder, (POINTS * np.float32(1e30)).tobytes())
    path, texts = folder / "x.arrow", {"source": "", "statistics": ""}
    write_point_labels(path, cameras, rows()[0][0], classes=NUSCENES_CLASSES, **texts)
    read = read_point_labels(path, NUSCENES_CLASSES)
    assert len(read) == 2 and not any(len(camera.sweep) for camera in read.values())


@LIDAR.handled("a sample without a sweep", "no sweep points; pseudo points for its objects")
def _(folder):
    frame, objects = rows(1)[0]
    dataset = data_set(folder, [(replace(frame, lidar=None), objects)])
    points, statistics = PointLabeller(dataset.index, folder)(0)
    assert statistics.without_points[0].sum() == 2 and len(points[0].sweep) == 0


@LIDAR.refused("missing lidarseg labels", "seg.bin: no such file; unpack", FileNotFoundError)
def _(folder):
    label(folder, INTACT, None, **ALL_CAR)


@LIDAR.refused(
    "lidarseg labels of another number of points",
    "seg.bin: 9 labels for a sweep of 10 points; labels and sweep are of different versions",
)
def _(folder):
    label(folder, INTACT, bytes(9), **ALL_CAR)


@LIDAR.refused(
    "lidarseg labels of a category missing in the table",
    "sample sample0: lidarseg index 7 is not in the category table (1 entries); use the table",
)
def _(folder):
    label(folder, INTACT, bytes([7] * 10), **ALL_CAR)


@LIDAR.refused(
    "an index with invalid lidarseg classes",
    "index.arrow: lidarseg_classes must be a list of class ids, got '[99]'",
)
def _(folder):
    label(folder, INTACT, bytes(10), lidarseg_classes="[99]")


def points(count: int) -> PixelPoints:
    values = np.linspace(1, 40, count, dtype=np.float32)
    return PixelPoints(values, values, values, np.zeros(count, np.int8))


def labels_of(
    folder: Path,
    channels: tuple[str, ...] = ("FRONT", "BACK"),
    source: str = "tables",
    classes: ClassSet = NUSCENES_CLASSES,
):
    """Returns a data set whose first sample has labels, and the label file."""
    made = data_set(folder, source="tables")
    cameras = [PointLabels(*map(points, (5, 3, 1, 0)))] * len(channels)
    path, frame = folder / "sample0.arrow", made.index[0].select(channels)
    write_point_labels(path, cameras, frame, source=source, classes=classes, statistics="[]")
    return replace(made, label_dir=folder), path


def read_labels(folder: Path, dataset):
    return dataset.point_labels(dataset.index[0])


@LABELS.refused(
    "a missing file", "sample0.arrow: no such point-labels file; run", FileNotFoundError
)
def _(folder):
    dataset, path = labels_of(folder)
    path.unlink()
    read_labels(folder, dataset)


@LABELS.refused(
    "labels without those of a camera",
    "sample0.arrow: has no labels of camera BACK, only of FRONT; remove it and make the labels",
)
def _(folder):
    read_labels(folder, labels_of(folder, ("FRONT",))[0])


@LABELS.refused(
    "labels of other classes",
    'sample0.arrow: made for other classes ({"names": ["car"]…) than the index ({"names": '
    '["car", "truck", …); run tools/prepare_nuscenes.py again',
)
def _(folder):
    read_labels(folder, labels_of(folder, classes=ClassSet(names=["car"]))[0])


@LABELS.refused(
    "labels computed from other tables",
    "sample0.arrow: made from other tables (older) than the index (tables); run tools/prepare",
)
def _(folder):
    read_labels(folder, labels_of(folder, source="older")[0])


for name, keep in (("empty", 0), ("cut in the middle", 700), ("without its last bytes", -9)):
    message = "sample0.arrow: not a complete point-labels file (…); it is damaged or of another"

    @LABELS.refused(name, message)
    def _(folder, keep=keep):
        dataset, path = labels_of(folder)
        path.write_bytes(path.read_bytes()[:keep])
        read_labels(folder, dataset)


def with_label_column(folder: Path, name: str, values: list, kind: pa.DataType | None = None):
    """Reads labels with a column that another program changed."""
    dataset, path = labels_of(folder)
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    index = table.schema.get_field_index(name)
    kind = kind or table.schema.field(name).type
    table = table.set_column(index, name, pa.array(values, kind))
    write_table(path, table, LABEL_FORMAT, read_label_header(path))
    read_labels(folder, dataset)


for name, column, values, message in (
    ("u shorter than v and depth", "u", [[1] * 8, [1] * 9], "have different numbers of points"),
    ("groups that don't add up", "group_sizes", [[5, 3, 1, 1]] * 2, "add up to [9 9]"),
    ("a negative group", "group_sizes", [[10, -1, 0, 0]] * 2, "group_sizes [[10, -1, 0, 0]"),
    ("a scale of 0", "pixel_scale", [0, 32], "pixel_scale must be 1 or more, got [0, 32]"),
    ("a missing value", "pixel_scale", [None, 32], "a value is missing"),
    ("an unknown class", "class_id", [[0] * 9, [99] * 9], "class ids must be -1 .. 9, got [ 0 99]"),
):
    LABELS.refused(name, f"sample0.arrow: …{message}…; remove it and make the labels again")(
        lambda folder, column=column, values=values: with_label_column(folder, column, values)
    )


@LABELS.refused("depths of another type", "sample0.arrow: has columns …, expected …; remove it")
def _(folder):
    with_label_column(folder, "depth", [[1.0] * 9] * 2, pa.list_(pa.float32()))


@LABELS.refused(
    "labels without names of their cameras",
    "sample0.arrow: its header has no names of its 2 cameras; remove it and make the labels again",
)
def _(folder):
    dataset, path = labels_of(folder)
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    write_table(path, table, LABEL_FORMAT, {**read_label_header(path), "channels": '["FRONT"]'})
    read_labels(folder, dataset)


def with_format(folder: Path, module, name: str, **change) -> None:
    """Writes with a changed format and reads with the original one."""
    expected = getattr(module, name)
    try:
        setattr(module, name, replace(expected, **change))
        dataset = labels_of(folder)[0]
    finally:
        setattr(module, name, expected)
    FrameIndex(dataset.index.path)
    read_point_labels(folder / "sample0.arrow", NUSCENES_CLASSES)


@LABELS.refused(
    "labels of version 0.2, whose pseudo points end at 60 m",
    "sample0.arrow: fsdbev.version is '2', but this code reads '3'; run tools/prepare_nuscenes.py",
)
def _(folder):
    with_format(folder, point_labels, "LABEL_FORMAT", version=2)


for name, change, found in (
    ("another schema version", {"version": 99}, "fsdbev.version is '99', but this code reads '"),
    ("another coordinate convention", {"convention": "lidar frame"}, "fsdbev.convention is 'lidar"),
    ("another kind of file", {"kind": "point-cloud"}, "fsdbev.kind is 'point-cloud', but this"),
):

    @LABELS.refused(name, f"sample0.arrow: {found}…; run tools/prepare_nuscenes.py again")
    def _(folder, change=change):
        with_format(folder, point_labels, "LABEL_FORMAT", **change)

    @INDEX.refused(name, f"index.arrow: {found}…; run tools/prepare_nuscenes.py again")
    def _(folder, change=change):
        expected = index.INDEX_FORMAT
        try:
            index.INDEX_FORMAT = replace(expected, **change)
            write_index(folder / "index.arrow", rows(), NUSCENES_CLASSES)
        finally:
            index.INDEX_FORMAT = expected
        FrameIndex(folder / "index.arrow")


@INDEX.refused("a missing file", "x.arrow: no such frame-index file; run", FileNotFoundError)
def _(folder):
    FrameIndex(folder / "x.arrow")


@INDEX.refused("a folder", "index.arrow: no such frame-index file", FileNotFoundError)
def _(folder):
    (folder / "index.arrow").mkdir()
    FrameIndex(folder / "index.arrow")


def damaged(folder: Path, change) -> None:
    data_set(folder)
    path = folder / "index.arrow"
    path.write_bytes(change(path.read_bytes()))
    FrameIndex(path)


def reaching_out(data: bytes) -> bytes:
    """Changes the offset of a list of numbers so that it is outside of the file."""
    # The offsets of two entries of 9 numbers in three rows.
    offsets = np.array([0, 18, 36, 54], np.int32).tobytes()
    return data.replace(offsets, np.array([0, 18, 2**30, 54], np.int32).tobytes())


for name, change in (
    ("empty", lambda data: b""),
    ("cut at the start", lambda data: data[100:]),
    ("cut in the middle", lambda data: data[: len(data) // 2]),
    ("without its last byte", lambda data: data[:-1]),
    ("random bytes", lambda data: np.random.default_rng(0).bytes(5000)),
    ("a list with an offset outside of the file", reaching_out),
):
    message = "index.arrow: not a complete frame-index file (…); it is damaged or of another format"
    INDEX.refused(name, message)(lambda folder, change=change: damaged(folder, change))


def table_of(folder: Path) -> pa.Table:
    data_set(folder)
    with pa.OSFile(str(folder / "index.arrow")) as file:
        return pa.ipc.open_file(file).read_all()


def opened(
    folder: Path,
    table: pa.Table,
    classes: str = json.dumps(NUSCENES_CLASSES.to_dict()),
    file_format: FileFormat = INDEX_FORMAT,
) -> FrameIndex:
    """Opens an index with this table and this text as its classes."""
    write_table(folder / "index.arrow", table, file_format, {CLASSES_FIELD: classes})
    return FrameIndex(folder / "index.arrow")


#: Header of the index of version 0.2, which ended with the names of nuScenes' classes.
FORMAT_OF_0_2 = replace(
    INDEX_FORMAT,
    version=1,
    convention=INDEX_FORMAT.convention.replace(
        "intrinsics of rectified images", "classes " + " ".join(NUSCENES_CLASSES.names)
    ),
)


@INDEX.refused(
    "an index of version 0.2, without classes and lenses",
    "index.arrow: fsdbev.version is '1', but this code reads '2'; run tools/prepare_nuscenes.py "
    "again (with the same --output)",
)
def _(folder):
    table = table_of(folder).drop_columns([*LENS_STRINGS, *LENS_NUMBERS])
    opened(folder, table, file_format=FORMAT_OF_0_2)


@INDEX.refused("no classes", "index.arrow: its header has no classes; run tools/prepare")
def _(folder):
    opened(folder, table_of(folder), classes="")


@INDEX.refused(
    "classes that are no arguments of a ClassSet",
    "index.arrow: …its classes can't be read (…); run tools/prepare_nuscenes.py again",
)
def _(folder):
    opened(folder, table_of(folder), classes='{"names": "car"}')


@INDEX.refused("a column missing", "index.arrow: has columns …, expected …; run tools/prepare")
def _(folder):
    opened(folder, table_of(folder).drop_columns(["velocity"]))


@INDEX.refused("no rows", "index.arrow: an index needs at least one sample, got none; run tools")
def _(folder):
    opened(folder, table_of(folder).slice(0, 0))


@INDEX.refused("a missing value", "index.arrow: scene_token has missing values; run tools/prepare")
def _(folder):
    with_column(folder, "scene_token", set_item(1, None))


@INDEX.refused(
    "an incomplete matrix",
    "index.arrow: ego2global has lists that do not divide into entries",
)
def _(folder):
    with_column(folder, "ego2global", set_item(1, [1.0] * 31))


@INDEX.refused(
    "fewer matrices than cameras",
    "index.arrow: sample 'sample1' (row 1): every camera field needs one entry per camera, got …",
)
def _(folder):
    with_column(folder, "ego2global", set_item(1, [1.0] * 16))


@INDEX.refused(
    "the same sample in two rows", "index.arrow: sample 'sample0' (row 2): its token appears twice"
)
def _(folder):
    with_column(folder, "sample_token", set_item(2, "sample0"))
