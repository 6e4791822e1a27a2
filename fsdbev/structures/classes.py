"""Classes and splits of nuScenes' detection task, and the six tasks of the center head."""

#: Detection classes in the order of the class indices (docs/model.md, "Frames of reference").
CLASS_NAMES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)

#: Classes of each task of the center head; classes of similar size share a task (CenterPoint,
#: arXiv:2006.11275; docs/model.md, "Head, targets, decoding").
TASKS = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)


#: Split -> ending of the names of the versions that it belongs to. The version cannot be derived
#: from the scenes, since versions share some: v1.0-mini has scenes of ``train`` and of ``val``.
OFFICIAL_SPLITS = {
    "train": "trainval",
    "val": "trainval",
    "train_detect": "trainval",
    "train_track": "trainval",
    "mini_train": "mini",
    "mini_val": "mini",
    "test": "test",
}
#: The two halves of ``train``. All other splits of a version are disjoint.
TRAIN_HALVES = ("train_detect", "train_track")
