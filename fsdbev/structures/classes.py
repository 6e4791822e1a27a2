"""The detection classes of nuScenes and the six tasks of the center head, stated once."""

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

#: Classes of similar size share a task, as in CenterPoint.
TASKS = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)


#: Split -> how the names of the versions end that hold its scenes. Versions share scenes, so the
#: scenes alone do not tell: v1.0-mini has some of ``train`` and of ``val``.
OFFICIAL_SPLITS = {
    "train": "trainval",
    "val": "trainval",
    "train_detect": "trainval",
    "train_track": "trainval",
    "mini_train": "mini",
    "mini_val": "mini",
    "test": "test",
}
#: Halves of ``train``: the other splits of a version share no scene.
HALVES_OF_TRAIN = ("train_detect", "train_track")
