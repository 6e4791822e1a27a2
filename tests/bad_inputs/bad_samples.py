"""Bad samples of a frame index: calibration, time, boxes, paths.

They are refused when an index is written, and when one written by another program is opened.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from bad_theme import Theme
from made_rows import Rows, data_set, pose, rows, set_item, with_column, with_frame, with_objects
from PIL import Image

from fsdbev.data.index.records import Annotations
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.transforms.bev_aug import BEVAugmentation
from fsdbev.data.transforms.image_aug import ImageAugmentation
from fsdbev.structures import BEVGrid, Lens

CALIBRATION = Theme(
    "Calibration and poses",
    "Of a frame index, checked when it is written and when it is opened. Rotations may have "
    "rounding errors of up to 0.001 in the entries of the matrix times its transpose.",
)
TIME = Theme("Time and scenes", "Of a frame index, as above.")
BOXES = Theme("Boxes", "Of a frame index, as above, and of a training.")
PATHS = Theme("File names", "Of a frame index, as above: no file outside of the data root is read.")


def mapped(folder: Path, made: Rows, row: int = 1) -> dict:
    """Returns the training sample of a row."""
    dataset = data_set(folder, made)
    for frame, _ in made:
        for path in frame.image_paths:
            (folder / path).parent.mkdir(exist_ok=True)
            Image.new("RGB", (64, 48)).save(folder / path)
    mapper = MultiViewMapper(
        image_aug=ImageAugmentation(image_size=(32, 64)),
        bev_aug=BEVAugmentation(max_rotation=0, scale=(1, 1), flip_prob=0),
        grid=BEVGrid(),
        training=True,
    )
    return mapper(dataset, row, np.random.default_rng(0))


def changed(field: str, camera: int, entry: tuple, value: float) -> np.ndarray:
    matrices = getattr(rows()[1][0], field).copy()
    matrices[(camera, *entry)] = value
    return matrices


INTRINSICS = (
    "sample 'sample1' (row 1): calibration is not of a pinhole camera: intrinsics "
    "must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy, got …"
)
for name, entry, value in (
    ("a focal length of 0", (0, 0), 0.0),
    ("a negative focal length", (1, 1), -50.0),
    ("a NaN in the intrinsics", (0, 2), np.nan),
    ("an infinite principal point", (0, 2), np.inf),
    ("intrinsics whose last row is not 0 0 1", (2, 0), 0.5),
    ("a focal length of 1e300 pixels", (0, 0), 1e300),
):
    made = with_frame(intrinsics=changed("intrinsics", 1, entry, value))
    CALIBRATION.refused(name, INTRINSICS)(lambda folder, made=made: data_set(folder, made))

MIRROR = np.diag([1.0, -1, 1, 1])
for name, field, matrix in (
    ("a singular cam2ego", "cam2ego", np.zeros((4, 4))),
    ("a NaN in cam2ego", "cam2ego", np.full((4, 4), np.nan)),
    ("an infinite translation", "ego2global", pose(0, np.inf)),
    ("a translation of 1e12 m", "ego2global", pose(0, 1e12)),
    ("a pose that mirrors", "ego2global", MIRROR),
    ("a pose that scales by 2", "cam2ego", np.diag([2.0, 2, 2, 1])),
    ("a pose whose last row is not 0 0 0 1", "cam2ego", pose() + np.eye(4)[[3] * 4] * 0.1),
    ("a transposed pose, its translation in the last row", "ego2global", pose(0, 9).T),
):
    made = with_frame(**{field: np.stack([pose(), matrix])})
    message = f"sample 'sample1' (row 1): …{field} must be a rotation and a translation, got …"
    CALIBRATION.refused(name, message)(lambda folder, made=made: data_set(folder, made))


@CALIBRATION.refused(
    "an invalid LiDAR pose", "sample 'sample0' (row 0): …lidar2ego must be a rotation and a"
)
def _(folder):
    made = rows()
    lidar = replace(made[0][0].lidar, lidar2ego=np.ones((4, 4)))
    made[0] = (replace(made[0][0], lidar=lidar), made[0][1])
    data_set(folder, made)


@CALIBRATION.refused(
    "a NaN that another program wrote into an index",
    "index.arrow: sample 'sample2' (row 2): …ego2global must be a rotation and a translation, …",
)
def _(folder):
    with_column(folder, "ego2global", set_item(2, [np.nan] * 32))


for name, changes, message in (
    ("an entry missing for a camera", {"channels": ("A",)}, "every camera field needs one entry"),
    ("no camera", {"channels": ()}, "every camera field needs one entry per camera, got"),
    ("a missing reference camera", {"reference_camera": 2}, "the rig has 2 cameras"),
    ("a negative reference camera", {"reference_camera": -1}, "reference_camera is -1, but the"),
    (
        "images 0 or 10^9 pixels wide",
        {"image_sizes": np.array([[64, 48], [10**9, 0]])},
        "image_sizes must be 1 .. 65536 px, got [1000000000, 0]",
    ),
    (
        "an image size that does not fit 32 bits",
        {"image_sizes": np.array([[64, 48], [2**32 + 64, 48]])},
        "image_sizes must be integers that fit int32",
    ),
    (
        "a checksum of more than 32 bits",
        {"image_crcs": np.array([2**32, -1])},
        "image_crcs must be CRC-32, or -1 where unknown, got 4294967296",
    ),
):
    made = with_frame(**changes)
    CALIBRATION.refused(name, f"sample 'sample1' (row 1): …{message}…")(
        lambda folder, made=made: data_set(folder, made)
    )


OTHER_RIG = (
    "sample 'sample1' (row 1): its cameras are {}, but those of sample 'sample0' (row 0), the one "
    "before it, are FRONT 64 x 48, BACK 64 x 48; linked samples need the same cameras and image …"
)
HALF = np.array([[64, 48], [32, 24]])
for name, changes, found in (
    ("images of half the size", {"image_sizes": HALF}, "FRONT 64 x 48, BACK 32 x 24"),
    ("other cameras", {"channels": ("FRONT", "LEFT")}, "FRONT 64 x 48, LEFT 64 x 48"),
):
    made = with_frame(**changes)
    CALIBRATION.refused(f"{name} than in the sample before", OTHER_RIG.format(found))(
        lambda folder, made=made: data_set(folder, made)
    )


@CALIBRATION.refused(
    "a camera less than in the sample before",
    OTHER_RIG.format("FRONT 64 x 48"),
)
def _(folder):
    made = rows()
    made[1] = (made[1][0].select(["FRONT"]), made[1][1])
    data_set(folder, made)


@CALIBRATION.refused(
    "images of another size that another program wrote", f"index.arrow: {OTHER_RIG.format('…')}"
)
def _(folder):
    with_column(folder, "image_sizes", set_item(1, [64, 48, 32, 24]))


@CALIBRATION.handled(
    "other cameras in another scene, or other intrinsics in the next sample",
    "each sample has its own; only linked samples need the same cameras and image sizes",
)
def _(folder):
    made = rows()
    zoomed = replace(made[1][0], intrinsics=np.diag([2, 2, 1]) @ made[1][0].intrinsics, next=-1)
    other = replace(made[2][0], previous=-1, scene_token="other", image_sizes=HALF)
    data_set(folder, [made[0], (zoomed, made[1][1]), (other, made[2][1])])


LENS = Lens("fisheye", rows()[1][0].intrinsics[0], (0.1, 0, 0, 0))


@CALIBRATION.refused(
    "one lens for two cameras", "sample 'sample1' (row 1): lenses has 1 entries for 2 cameras"
)
def _(folder):
    data_set(folder, with_frame(lenses=(LENS,)))


SKEWED = [50, 3, 32, 0, 50, 24, 0, 0, 1] * 2
for name, column, value, message in (
    (
        "an unknown lens model",
        "lens_models",
        ["fisheye", "kannala"],
        "a lens model is radial_tangential or fisheye, or empty, got 'kannala'",
    ),
    (
        "lens intrinsics with a skew",
        "lens_intrinsics",
        SKEWED,
        "lens intrinsics must be [[fx, 0, c",
    ),
    (
        "coefficients without a lens model",
        "lens_coefficients",
        [0.1] * 28,
        "a lens of model '' has 0 coefficients, finite; the others are 0, got [0.1, …",
    ),
):
    message = f"index.arrow: sample 'sample1' (row 1): {message}"
    CALIBRATION.refused(f"{name} that another program wrote", message)(
        lambda folder, column=column, value=value: with_column(folder, column, set_item(1, value))
    )


@TIME.handled("no previous sample", "the sample itself replaces the previous frames")
def _(folder):
    made = with_frame(0, previous=-1)
    sample = mapped(folder, made, 0)
    assert sample["frame_tokens"] == ["sample0", "sample0"]


@TIME.handled("negative or huge timestamps", "accepted, because only their differences are used")
def _(folder):
    made = [(replace(f, timestamp=[-(2**62), -1, 2**62][i]), o) for i, (f, o) in enumerate(rows())]
    assert data_set(folder, made).index[2].timestamp == 2**62


@TIME.handled(
    "a sample 61.5 s after the one before it, where 0.5 s are usual",
    "it replaces its earlier frame (`dataloader.max_frame_gap`); preparation, check and loader "
    "say so",
)
def _(folder):
    made = with_frame(2, timestamp=62_000_000)
    assert mapped(folder, made, 2)["frame_tokens"] == ["sample2", "sample2"]
    assert "such as sample2, 61.5 s after the one" in data_set(folder, made).index.gap_report()


for name, changes, message in (
    (
        "a clock that stands still",
        {"timestamp": 0},
        "its timestamp 0 is not after 0, that of row 0 of ",
    ),
    ("a clock that goes back", {"timestamp": -7}, "is not after 0, …; sort the scene by time"),
    ("a link to a missing row", {"next": 3}, "previous/next must be rows 0 .. 2 or -1"),
    ("a negative link", {"previous": -2}, "previous/next must be rows 0 .. 2 or -1, got -2"),
    ("a sample linked to itself", {"next": 1}, "next is row 1, which is not next in time"),
    ("links in a circle", {"next": 0}, "next is row 0, which is not next in time in the same"),
    (
        "a link to another scene",
        {"scene_token": "other"},
        "previous is row 0, which is not previous in time in the same scene",
    ),
    ("the same sample twice", {"sample_token": "sample0"}, "token appears twice; sample tokens"),
):
    made = with_frame(**changes)
    TIME.refused(name, f"(row 1): …{message}…")(lambda folder, made=made: data_set(folder, made))


@TIME.refused("a timestamp of 10^30", "timestamp can't be stored as int64: …")
def _(folder):
    data_set(folder, with_frame(timestamp=10**30))


@TIME.refused("no samples", "index.arrow: an index needs at least one sample, got none")
def _(folder):
    data_set(folder, [])


@TIME.refused(
    "a circle that another program wrote",
    "index.arrow: sample 'sample0' (row 0): previous is row 1",
)
def _(folder):
    with_column(folder, "previous", set_item(0, 1))


@BOXES.handled("a sample without boxes", "used for training, with heatmaps of 0")
def _(folder):
    sample = mapped(folder, [(frame, Annotations.empty()) for frame, _ in rows()])
    assert len(sample["instances"]) == 0 and not sample["gt_heatmap"].any()


@BOXES.handled(
    "a box outside of the grid", "removed from the instances, kept in the images' heatmaps"
)
def _(folder):
    boxes = np.array([[70, 0, 1, 9, 9, 9, 0, 0, 0]])
    made = [(frame, Annotations.from_boxes(boxes, [0])) for frame, _ in rows()]
    sample = mapped(folder, made)
    assert len(sample["instances"]) == 0 and sample["gt_heatmap"].any()


@BOXES.handled("a box around the camera", "left out of that camera's heatmap or cut at its border")
def _(folder):
    boxes = np.array([[0, 0, 1.5, 4, 4, 4, 0, 0, 0]])
    sample = mapped(folder, [(f, Annotations.from_boxes(boxes, [0])) for f, _ in rows()])
    assert sample["gt_heatmap"].isfinite().all() and len(sample["instances"]) == 1


ONES = np.ones((2, 3), np.float32)
for name, changes, message in (
    ("a centre that is NaN", {"center": ONES * np.nan}, "a box's center must be finite"),
    ("a centre 10^30 m away", {"center": ONES * 1e30}, "a box's center must be finite"),
    ("a size of 0", {"size": ONES * 0}, "box sizes (l, w, h) must be positive, got [0.0, 0.0,"),
    ("a negative size", {"size": -ONES}, "box sizes (l, w, h) must be positive, got [-1.0, -1.0"),
    ("a size of 10^9 m", {"size": ONES * 1e9}, "a box's size must be finite and at most 100000"),
    ("an infinite velocity", {"velocity": ONES[:, :2] * np.inf}, "a box's velocity must be finite"),
    ("a velocity that is NaN", {"velocity": ONES[:, :2] * np.nan}, "velocity must be finite"),
    (
        "a matrix that is not a rotation",
        {"rotation": np.ones((2, 3, 3))},
        "must be a rotation matrix",
    ),
    (
        "an unknown class",
        {"class_ids": np.array([0, 10])},
        "class ids must be 0 .. 9 (car, truck, …), got [ 0 10]; leave out objects of other classes",
    ),
    ("a class that does not fit its type", {"class_ids": np.array([0, 256])}, "class_ids must be"),
):
    made = with_objects(**changes)
    BOXES.refused(name, f"sample 'sample1' (row 1): …{message}…")(
        lambda folder, made=made: data_set(folder, made)
    )


@BOXES.refused(
    "fields of different lengths", "every field of Annotations needs one entry per object"
)
def _(folder):
    with_objects(tokens=("only one",))


@BOXES.refused(
    "the same, written by another program",
    "index.arrow: sample 'sample1' (row 1): every object field needs one entry per object, got …",
)
def _(folder):
    with_column(folder, "velocity", set_item(1, [0.0, 0.0]))


for name in ("../secret.png", "images/../../secret.png", "/etc/passwd", "C:/x.png", ".."):
    made = with_frame(image_paths=(name, "images/1_1.png"))
    message = f"sample 'sample1' (row 1): file '{name}' must be relative and inside the data root"
    PATHS.refused(f"an image named {name}", message)(
        lambda folder, made=made: data_set(folder, made)
    )
for name, path in (
    ("an image name with a NUL byte", "images/x\0.png"),
    ("an image name with backslashes", "images\\..\\x.png"),
    ("an empty image name", ""),
):
    made = with_frame(image_paths=("images/1_0.png", path))
    PATHS.refused(
        name, "sample 'sample1' (row 1): file …must be relative and inside the data root"
    )(lambda folder, made=made: data_set(folder, made))
for name in ("../sample", "a/b", "/x", "", "..", "a\\b", "a\0b"):
    made = with_frame(sample_token=name)
    PATHS.refused(
        f"a sample token that is {name!r}",
        "(row 1): a sample token is used as a file name, so it can't be empty or a path",
    )(lambda folder, made=made: data_set(folder, made))


@PATHS.refused(
    "a sweep outside of the data root that another program wrote",
    "index.arrow: sample 'sample1' (row 1): file '../1.bin' must be relative and inside the data",
)
def _(folder):
    with_column(folder, "lidar_path", set_item(1, "../1.bin"))


@PATHS.refused(
    "an image outside of the data root that another program wrote",
    "index.arrow: sample 'sample0' (row 0): file '/etc/passwd' must be relative and inside",
)
def _(folder):
    with_column(folder, "image_paths", set_item(0, ["/etc/passwd", "x.png"]))


@PATHS.refused(
    "a sample token that is a path, written by another program",
    "index.arrow: sample '../x' (row 0): a sample token is used as a file name, so it can't",
)
def _(folder):
    with_column(folder, "sample_token", set_item(0, "../x"))
