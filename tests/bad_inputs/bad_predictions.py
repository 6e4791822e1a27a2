"""Bad inputs of a predictor, and bad predictions of a model or in a submission file."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from bad_theme import Theme
from made_rows import data_set

from fsdbev.data.fake import fake_samples
from fsdbev.evaluation import DetectionEvaluator, NuScenesEvaluator
from fsdbev.evaluation.submission import boxes_to_submission, check_sample_tokens, read_submission
from fsdbev.export.graph import GraphOptions
from fsdbev.export.inputs import graph_inputs
from fsdbev.inference.predictor import Predictor, read_images
from fsdbev.structures import NUSCENES_CLASSES, Boxes3D, ClassSet, Rig

PREDICTOR = Theme("Inputs of a predictor", "See [Your own cameras](own_cameras.md).")
SUBMISSION = Theme(
    "Predictions and submissions",
    "Predictions of a model in an evaluation, and submission files when they are read. The error "
    "names the sample. nuScenes' devkit scores some of these without an error.",
)

_AHEAD = torch.tensor([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])
RIG = Rig(
    channels=("left", "right"),
    image_sizes=((8, 6), (8, 6)),
    intrinsics=torch.tensor([[5.0, 0, 4], [0, 5, 3], [0, 0, 1]]).repeat(2, 1, 1),
    cam2ego=_AHEAD.repeat(2, 1, 1),
)
VALID = np.zeros((6, 8, 3), np.uint8)
UINT8 = "camera 'right': an image is (height, width, 3) uint8 RGB, got …"
for name, images, message in (
    ("pixels that are NaN", [VALID, np.full((6, 8, 3), np.nan)], UINT8),
    ("pixels of float, 0 to 1", [VALID, VALID / 255], UINT8),
    ("a grey image without channels", [VALID, VALID[..., 0]], UINT8),
    ("channels first", [VALID, VALID.transpose(2, 0, 1)], "camera 'right': …"),
    ("four channels", [VALID, np.zeros((6, 8, 4), np.uint8)], UINT8),
    ("None for a camera", [VALID, None], UINT8),
    ("another size", [VALID, VALID[:5]], "camera 'right': 8 x 5 pixels, but the rig has 8 x 6;"),
    ("a missing camera", [VALID], "1 images, but the rig has 2 cameras"),
    (
        "a camera that the rig lacks",
        {"left": VALID, "top": VALID},
        "images of ['left', 'top'], but",
    ),
    ("one name for all", "left.jpg", "images must be a list, or a dict by camera (left, right),"),
    ("None", None, "images must be a list, or a dict by camera (left, right), got NoneType"),
):
    PREDICTOR.refused(name, message)(lambda folder, images=images: read_images(images, RIG))


@PREDICTOR.refused("a missing image file", "x.jpg: no such image; …", FileNotFoundError)
def _(folder):
    read_images([VALID, folder / "x.jpg"], RIG)


@PREDICTOR.refused("a file that is not an image", "x.jpg: can't be decoded (…); fetch it again")
def _(folder):
    (folder / "x.jpg").write_bytes(b"rubbish")
    read_images([VALID, folder / "x.jpg"], RIG)


def posed(ego2global) -> None:
    predictor = Predictor.__new__(Predictor)  # poses are checked before the model is used
    predictor._past_frames, predictor._count = [], 0
    predictor._frame(RIG, ego2global)


for name, matrix, message in (
    ("a pose that is NaN", np.full((4, 4), np.nan), "ego2global must be a rotation and a transl"),
    ("a pose that mirrors", np.diag([1.0, -1, 1, 1]), "ego2global must be a rotation and a transl"),
    ("a pose of text", [["a"] * 4] * 4, "ego2global must be a matrix of numbers, got"),
    ("poses of three cameras", np.tile(np.eye(4), (3, 1, 1)), "must be (4, 4) or (2, 4, 4), got"),
):
    PREDICTOR.refused(name, message)(lambda folder, matrix=matrix: posed(matrix))


def timed(*seconds) -> None:
    predictor = Predictor.__new__(Predictor)
    predictor._past_frames, predictor.frame_interval = [], 0.5
    for time in seconds:
        predictor._check_time(time)
        predictor._past_frames = [SimpleNamespace(seconds=time)]


for name, seconds, message in (
    ("no time, with frame_interval", [None], "give each call its time as seconds, got None; call"),
    ("a time that is NaN", [float("nan")], "as seconds, got nan; call reset() between drives"),
    ("a clock that goes back", [7, 6.5], "as seconds, later than 7 of the last call, got 6.5"),
):
    PREDICTOR.refused(name, f"…(dataloader.frame_interval): …{message}…")(
        lambda folder, seconds=seconds: timed(*seconds)
    )


@PREDICTOR.refused(
    "samples of an export with different numbers of cameras",
    "a graph takes samples with the same number of cameras, got [1, 2]; give samples of one rig",
)
def _(folder):
    sizes = {"num_frames": 1, "image_size": (32, 64)}
    samples = [fake_samples(1, num_cameras=count, **sizes)[0] for count in (1, 2)]
    graph_inputs(None, samples, GraphOptions(), score_threshold=0.1)


def submit(column: int | None = None, value: float = 0, **changes) -> list[dict]:
    """Returns a submission of two boxes of a model, the second with another number."""
    boxes = torch.tensor([[10.0, 0, 1, 4, 2, 1.6, 0.3, 1, 0]] * 2)
    if column is not None:
        boxes[1, column] = value
    found = {"scores": torch.tensor([0.9, 0.8]), "labels": torch.zeros(2, dtype=torch.int64)}
    return boxes_to_submission(
        "abc",
        Boxes3D(boxes),
        **{**found, **changes},
        key_ego2global=torch.eye(4, dtype=torch.float64),
        classes=NUSCENES_CLASSES,
    )


for name, options, message in (
    ("a model's centre of NaN", {"column": 0, "value": np.nan}, "box 1: translation must be 3"),
    ("a model's size of 0", {"column": 3, "value": 0.0}, "box 1: size must be positive, got"),
    ("a model's velocity that is NaN", {"column": 8, "value": np.nan}, "box 1: velocity must be 2"),
    ("a model's yaw that is infinite", {"column": 6, "value": np.inf}, "box 1: rotation must be 4"),
    ("a model's score of NaN", {"scores": torch.tensor([0.9, np.nan])}, "must be finite, got nan"),
    ("a model's score of inf", {"scores": torch.tensor([np.inf, 0.1])}, "must be finite, got inf"),
    ("a missing score", {"scores": torch.tensor([0.9])}, "2 boxes, 1 scores and 2 labels"),
    ("an unknown class", {"labels": torch.tensor([0, 10])}, "labels must be 0 to 9, got 0 to 10"),
):
    SUBMISSION.refused(name, f"sample abc…{message}")(
        lambda folder, options=options: submit(**options)
    )


@SUBMISSION.handled("a model's 501st box", "the 500 boxes with the best scores are kept")
def _(folder):
    found = {"scores": torch.rand(600), "labels": torch.zeros(600, dtype=torch.int64)}
    boxes = Boxes3D(torch.tensor([[10.0, 0, 1, 4, 2, 1.6, 0.3, 1, 0]]).repeat(600, 1))
    options = {"key_ego2global": torch.eye(4, dtype=torch.float64), "classes": NUSCENES_CLASSES}
    kept = boxes_to_submission("abc", boxes, **found, **options)
    best = found["scores"].sort(descending=True).values[:500]
    assert [box["detection_score"] for box in kept] == best.double().tolist()


def read(folder: Path, text: str | bytes) -> None:
    path = folder / "results.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    read_submission(path, NUSCENES_CLASSES)


def with_box(**changes) -> str:
    return json.dumps({"meta": {}, "results": {"abc": [submit()[0], {**submit()[1], **changes}]}})


BOX = submit()[0]
for name, text, message in (
    ("a truncated file", with_box()[:-90], "…"),
    ("a file that is not UTF-8", b'{"results": {"\xff": []}}', "…"),
    ("a file nested 100000 deep", "[" * 100_000, "…"),
    ("a metrics file instead", '{"mean_ap": 0.3}', "it has no dict under 'results'"),
    ("a sample twice", '{"results": {"abc": [], "abc": []}}', "'abc' appears twice"),
    ("a sample without a list", '{"results": {"abc": 5}}', "sample abc has no list of boxes, but"),
    (
        "a box that is a number",
        '{"results": {"abc": [5]}}',
        "sample abc, box 0: it must be a dict, got 5",
    ),
    ("501 boxes", json.dumps({"results": {"abc": [BOX] * 501}}), "sample abc has 501 boxes;"),
    ("a velocity of NaN", with_box(velocity=[float("nan"), 0]), "velocity must be 2 finite"),
    ("an infinite score", with_box(detection_score=float("inf")), "detection_score must be finite"),
    ("a negative score", with_box(detection_score=-0.1), "detection_score must not be negative,"),
    ("a score of text", with_box(detection_score="0.5"), "must be finite, got '0.5'"),
    ("a score that is true", with_box(detection_score=True), "must be finite, got True"),
    ("a number of 400 digits", with_box(size=[1, 1, 10**400]), "size must be 3 finite numbers"),
    ("a vector of text", with_box(translation=["1", "2", "3"]), "translation must be 3 finite"),
    ("a vector that is null", with_box(translation=None), "translation must be 3 finite numbers,"),
    ("a negative size", with_box(size=[1, -1, 1]), "size must be positive, got [1, -1, 1]"),
    ("a quaternion of length 2", with_box(rotation=[2, 0, 0, 0]), "must be a unit quaternion"),
    ("an unknown class", with_box(detection_name="tram"), "detection_name must be one of"),
    ("a class that is a list", with_box(detection_name=["car"]), "detection_name must be one of"),
    ("another class's attribute", with_box(attribute_name="cycle.with_rider"), "attribute_name of"),
    ("a box of another sample", with_box(sample_token="xyz"), "sample_token must be that of"),
):
    SUBMISSION.refused(
        f"in a file: {name}", f"results.json is not a nuScenes submission: …{message}"
    )(lambda folder, text=text: read(folder, text))


@SUBMISSION.refused(
    "a sample of the data set without predictions",
    "1 of 2 samples of split 'val' have no predictions, first ['b']; run the model over all",
)
def _(folder):
    check_sample_tokens(["a"], ["a", "b"], "split 'val'")


@SUBMISSION.refused(
    "predictions of a sample outside of the data set",
    "1 samples with predictions are not in split 'val', first ['c']; evaluate the data that",
)
def _(folder):
    check_sample_tokens(["a", "c"], ["a"], "split 'val'")


@SUBMISSION.refused(
    "an evaluator of other classes than its data set",
    "data set 'made' has classes ['car', …], but the evaluator has ['person']; prepare the data",
)
def _(folder):
    classes = ClassSet(names=["person"])
    DetectionEvaluator(dataset=data_set(folder), classes=classes, output_dir=str(folder))


@SUBMISSION.refused(
    "an unknown choice for objects outside of the chosen cameras",
    "unseen_objects must be 'ignore' or 'count', got 'hide'",
)
def _(folder):
    dataset = data_set(folder)
    DetectionEvaluator(dataset=dataset, output_dir=str(folder), unseen_objects="hide")


def evaluator_of(folder: Path, split: str) -> None:
    options = {"dataroot": str(folder), "output_dir": str(folder), "version": "v1.0-trainval"}
    NuScenesEvaluator(**options, split=split)


@SUBMISSION.refused(
    "scenes in splits.json under the name of an official split",
    "splits.json: 'val' is an official split of nuScenes; choose another name",
)
def _(folder):
    (folder / "v1.0-trainval").mkdir()
    (folder / "v1.0-trainval/splits.json").write_text('{"val": ["scene-0001"]}')
    evaluator_of(folder, "val")


@SUBMISSION.refused(
    "an official split of another version", "split 'mini_val' belongs to a version ending in 'mini'"
)
def _(folder):
    evaluator_of(folder, "mini_val")
