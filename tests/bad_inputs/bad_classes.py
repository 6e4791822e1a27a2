"""Bad classes of a model, and other settings that do not fit the data set."""

from __future__ import annotations

from dataclasses import replace

from bad_theme import Theme
from made_rows import data_set, rows

from fsdbev.data.build import open_frames, open_nuscenes
from fsdbev.data.index.frame_index import write_index
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.transforms.bev_aug import BEVAugmentation
from fsdbev.data.transforms.image_aug import ImageAugmentation
from fsdbev.structures import NUSCENES_CLASSES, BEVGrid, ClassSet

CLASSES = Theme("Classes", "`model.classes`, and files that contain classes.")
SETTINGS = Theme("Settings of the data", "Keys of `dataloader`, checked when the loader is built.")

NAMES = {"names": ["car", "person"]}
NAN = float("nan")
for name, arguments, message in (
    ("no class", {"names": []}, "names must be a list of texts, got []"),
    ("a text in place of names", {"names": "car"}, "names must be a list of texts, got 'car'"),
    ("the same class twice", {"names": ["car", "car"]}, "classes must have different names, got"),
    (
        "a class in no group",
        {**NAMES, "groups": ["car"]},
        "in exactly one group: the classes are ['car', 'person'], the groups have ['car']",
    ),
    (
        "a class in two groups",
        {**NAMES, "groups": ["car", ["person", "car"]]},
        "the classes are ['car', 'person'], the groups have ['car', 'person', 'car']",
    ),
    ("an empty group", {**NAMES, "groups": [[], *NAMES["names"]]}, "a group must be a list of te"),
    (
        "a number as name of a group",
        {**NAMES, "groups": [{"names": [1]}]},
        "names of a group of classes must be a list of texts, got [1]",
    ),
    (
        "an unknown key of a group",
        {**NAMES, "groups": [{"names": ["car"], "iou": 0.2}, "person"]},
        "a group of classes has the keys of ClassGroup: …'iou'",
    ),
    (
        "a dim_scale for one of two classes",
        {**NAMES, "groups": [{**NAMES, "dim_scale": [1]}]},
        "group ['car', 'person'] needs one positive dim_scale per class, got [1.0]",
    ),
    (
        "a dim_scale of NaN",
        {**NAMES, "groups": [{**NAMES, "dim_scale": [1, NAN]}]},
        "group ['car', 'person'] needs one positive dim_scale per class, got [1.0, nan]",
    ),
    (
        "an iou_threshold of 2",
        {**NAMES, "groups": [{**NAMES, "iou_threshold": 2}]},
        "group ['car', 'person']: iou_threshold must be 0 to 1, got 2",
    ),
    (
        "a center_distance of 0",
        {**NAMES, "groups": [{**NAMES, "center_distance": 0}]},
        "group ['car', 'person']: center_distance must be positive, got 0",
    ),
    (
        "a category in two classes",
        {**NAMES, "categories": {"car": ["vehicle"], "person": ["vehicle"]}},
        "category 'vehicle' is in the classes car and person",
    ),
    (
        "ranges of an unknown class",
        {**NAMES, "ranges": {"truck": 40}},
        "ranges has 'truck', but the classes are ['car', 'person']",
    ),
    ("ranges as a list", {**NAMES, "ranges": [40, 50]}, "ranges must be a mapping by class, got"),
    ("a range of 0", {**NAMES, "ranges": {"car": 0}}, "the range of car must be a positive number"),
    (
        "one attribute of a class",
        {**NAMES, "attributes": {"car": ["parked"]}},
        "attributes of car must be two texts, at rest and moving, got ['parked']",
    ),
):
    CLASSES.refused(name, f"…{message}…")(lambda folder, arguments=arguments: ClassSet(**arguments))

DIFFERENT = (
    "the index …index.arrow has classes ['car', 'truck', …], but model.classes has ['car', "
    "'person']; write the index with these classes, or change model.classes"
)


@CLASSES.refused("an index with other classes than the model", DIFFERENT)
def _(folder):
    where = {"index": data_set(folder).index.path, "dataroot": folder}
    open_frames(name="made", **where, classes=ClassSet(**NAMES))


@CLASSES.refused(
    "a prepared split with other categories than the model",
    "the index …train.arrow has categories {…'vehicle.car'…}, but model.classes has {…}; make one "
    "of these classes with: python tools/prepare_nuscenes.py --dataroot …data --version v1.0-mini "
    "--splits train --output FOLDER --classes CONFIG, and set dataloader.index_dir to FOLDER",
)
def _(folder):
    write_index(folder / "train.arrow", rows(), NUSCENES_CLASSES)
    split = {"version": "v1.0-mini", "split": "train", "index_dir": folder}
    names = ClassSet(names=NUSCENES_CLASSES.names)  # a category of its own name each
    open_nuscenes(dataroot=folder / "data", **split, classes=names)


for name, cameras, message in (
    (
        "an unknown camera",
        ["FRONT", "LEFT"],
        "sample sample0 has no camera 'LEFT'; its cameras are FRONT, BACK",
    ),
    ("the same camera twice", ["BACK", "BACK"], "cameras must be a list of different names, got …"),
    ("a text in place of a list of cameras", "BACK", "must be a list of different names, got 'BA"),
    ("no camera of a data set", [], "cameras must be a list of different names, got []"),
):
    SETTINGS.refused(name, message)(
        lambda folder, cameras=cameras: replace(data_set(folder), cameras=cameras)
    )


def mapper(**options) -> MultiViewMapper:
    image_aug, bev_aug = ImageAugmentation(image_size=(32, 64)), BEVAugmentation()
    fixed = {"image_aug": image_aug, "bev_aug": bev_aug, "grid": BEVGrid(), "training": True}
    return MultiViewMapper(**fixed, **options)


for name, options, message in (
    ("no frames", {"num_frames": 0}, "num_frames and frame_spacing must be at least 1, got 0 and"),
    ("a frame_interval of 0", {"frame_interval": 0}, "frame_interval must be positive seconds, g"),
    (
        "a max_frame_gap of 0.5",
        {"max_frame_gap": 0.5},
        "max_frame_gap must be at least 1 (inf: any), ",
    ),
    ("a camera_dropout of 1", {"camera_dropout": 1.0}, "camera_dropout must be within [0, 1), got"),
):
    SETTINGS.refused(name, message)(lambda folder, options=options: mapper(**options))
