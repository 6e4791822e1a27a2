"""Bad results files of other programs, which tools/evaluate.py scores."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from bad_theme import Theme

from fsdbev.evaluation.box_arrays import submission_arrays
from fsdbev.evaluation.nuscenes_truth import TableTruth, nuscenes_task
from fsdbev.evaluation.results_file import ResultsFile, read_results
from fsdbev.structures import NUSCENES_CLASSES

THEME = Theme(
    "Results files of other programs",
    "Files that `tools/evaluate.py` scores. An error lists all kinds of problems of a file, with "
    "numbers and examples. What nuScenes' devkit accepts although it is not nuScenes' format is "
    "accepted with a notice and scored as the devkit does.",
)

BOX = {
    "sample_token": "abc",
    "translation": [100.0, 200.0, 1.0],
    "size": [2.0, 4.0, 1.6],
    "rotation": [1.0, 0.0, 0.0, 0.0],
    "velocity": [1.0, 0.0],
    "detection_name": "car",
    "detection_score": 0.5,
    "attribute_name": "vehicle.moving",
}


def samples_of(split: str) -> SimpleNamespace:
    """Returns the part of a ``TableTruth`` that reading needs."""
    return SimpleNamespace(
        scenes={"abc": "scene-1", "def": "scene-1"},
        split=split,
        name=f"split {split!r}",
        classes=NUSCENES_CLASSES,
        task=nuscenes_task(NUSCENES_CLASSES),
    )


def read(folder: Path, content, split: str = "val") -> ResultsFile:
    path = folder / "theirs.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_results(path, samples_of(split))


def with_boxes(*boxes, **changes) -> dict:
    """Returns content with these boxes in the first sample."""
    return {"meta": {}, "results": {"abc": list(boxes), "def": []}, **changes}


for name, content, message in (
    ("a file that is not JSON", "{", "is not a results file of nuScenes: Expecting"),
    ("a file without results", {"meta": {}}, "is not a results file of nuScenes: it has no dict"),
    ("a list of results", {"meta": {}, "results": []}, "of nuScenes: it has no dict under 'res"),
    ("results without meta", with_boxes(meta=None), "- it has no dict under 'meta'; add the modal"),
    (
        "a sample without predictions",
        with_boxes(results={"abc": []}),
        "- 1 of 2 samples of split 'val' have no predictions, first ['def']; run the model over",
    ),
    (
        "a sample of another split, in an official split",
        with_boxes(results={"abc": [], "def": [], "xyz": []}),
        "- 1 samples with predictions are not in split 'val', first ['xyz']; evaluate the data",
    ),
    (
        "boxes as a dict",
        with_boxes(results={"abc": {}, "def": []}),
        "- 1 samples: there must be a list of boxes: {} (1); first: sample abc",
    ),
    (
        "501 boxes in a sample",
        with_boxes(*[BOX] * 501),
        "- 1 samples: at most 500 boxes are allowed (keep those of highest score): 501 boxes (1)",
    ),
    (
        "unknown classes",
        with_boxes(*(BOX | {"detection_name": name} for name in ("tram", "pole", "tram"))),
        "- 3 boxes: detection_name must be one of [… 'tram' (2), 'pole' (1); first: sample abc, "
        "box 0",
    ),
    (
        "a tracking result",
        with_boxes({"sample_token": "abc", "tracking_name": "car"}),
        "- 1 boxes: it lacks ['attribute_name', 'detection_name', …",
    ),
    ("a number as box", with_boxes(5), "- 1 boxes: it must be a dict: 5 (1)"),
    *(
        (name, with_boxes(BOX, BOX | changes), f"- 1 boxes: {message} (1); first: …abc, box 1")
        for name, changes, message in (
            ("a box of another sample", {"sample_token": "def"}, "sample_token must be that of …"),
            ("text as position", {"translation": "abc"}, "translation must be 3 finite numbers: …"),
            ("an infinite velocity", {"velocity": [np.inf, 0]}, "velocity must be 2 finite …"),
            ("a velocity of null", {"velocity": [None, None]}, "velocity must be 2 finite …"),
            ("a size of 0", {"size": [0, 1, 1]}, "size must be positive: [0, 1, 1]"),
            ("a score of text", {"detection_score": "0.5"}, "…_score must be finite: '0.5'"),
            ("a negative score", {"detection_score": -2.5}, "…_score must not be negative: -2.5"),
            ("an unknown attribute", {"attribute_name": "None"}, "attribute_name of a … 'None'"),
            ("an attribute that is a list", {"attribute_name": []}, "attribute_name of a … []"),
        )
    ),
):
    THEME.refused(name, f"theirs.json…{message}")(partial(read, content=content))


@THEME.refused(
    "a split that the version lacks",
    "there is no split 'vall' (Custom split vall requested, but not found in …splits.json.); the "
    "splits are nuScenes' official ones and those of splits.json",
)
def _(folder):
    (folder / "splits.json").write_text('{"val": []}')
    place = {"dataroot": str(folder), "version": "", "split": "vall"}
    source = TableTruth(classes=NUSCENES_CLASSES, unseen_objects="count", **place)
    source.__dict__["nusc"] = SimpleNamespace(dataroot=str(folder), version="")
    _ = source.scenes


def accepted(folder: Path, changes: dict, notice: str) -> None:
    file = read(folder, with_boxes(BOX, BOX | changes))
    assert [line.partition("; first: sample abc, box 1")[0] for line in file.notices] == [notice]
    task = nuscenes_task(NUSCENES_CLASSES)
    arrays = submission_arrays(file.boxes, task.names, task.attributes)
    assert len(arrays) == (1 if "num_pts" in changes else 2)


WRONG = "1 boxes: attribute_name is not one of the class and counts as wrong: car with"
for name, changes, notice in (
    ("an empty attribute", {"attribute_name": ""}, f"{WRONG} '' (1)"),
    (
        "an attribute of another class",
        {"attribute_name": "cycle.with_rider"},
        f"{WRONG} 'cycle.with_rider' (1)",
    ),
    (
        "a velocity of NaN",
        {"velocity": [np.nan, 0.0]},
        "1 boxes: velocity is NaN; their matches do not count in the velocity error",
    ),
    (
        "a quaternion of length 2",
        {"rotation": [2.0, 0, 0, 0]},
        "1 boxes: rotation is not a unit quaternion; its norm does not matter",
    ),
    ("a box without points", {"num_pts": 0}, "1 boxes: num_pts is 0; they do not count"),
):
    THEME.handled(name, f"notice: {notice}")(partial(accepted, changes=changes, notice=notice))


@THEME.handled(
    "a sample of another split, in a split of splits.json",
    "notice: 1 samples are not in split 'own' and do not count",
)
def _(folder):
    file = read(folder, with_boxes(results={"abc": [], "def": [], "xyz": 5}), split="own")
    assert file.notices == ["1 samples are not in split 'own' and do not count"]
    assert list(file.boxes) == ["abc", "def"]
