"""Submissions in nuScenes' format: conversion from and to Boxes3D, checks, reading and writing.

Shapes: M boxes.

A submission is ``{"meta": {...}, "results": {sample_token: [box, ...]}}``. A box is a dict in the
global frame: translation (centre), size (width, length, height), rotation (quaternion w, x, y, z),
velocity (x, y), detection_name, detection_score, attribute_name (devkit,
``eval/detection/README.md``, "Results format"). Names of classes and attributes are those of a
:class:`ClassSet`.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from nuscenes.eval.detection.constants import DETECTION_NAMES
from nuscenes.eval.detection.utils import detection_name_to_rel_attributes
from pyquaternion import Quaternion
from torch import Tensor

from fsdbev.data.index.records import Frame
from fsdbev.structures import Boxes3D, ClassSet, LabelledBoxes, invert, transform_points
from fsdbev.utils.atomic_write import atomic_write

from .box_arrays import EncodedSubmission

#: nuScenes rejects a submission that has more boxes than this in one sample.
MAX_BOXES_PER_SAMPLE = 500

#: Declaration of the input modalities, which nuScenes requires.
META = {
    "use_camera": True,
    "use_lidar": False,
    "use_radar": False,
    "use_map": False,
    "use_external": False,
}

_VECTOR_LENGTHS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}
_KEYS = {
    "sample_token",
    "detection_name",
    "detection_score",
    "attribute_name",
    *_VECTOR_LENGTHS,
}
_QUATERNION_TOLERANCE = 1e-4
#: Exact types: bool, a subclass of int, is not a number here.
_NUMBER_TYPES = frozenset((float, int))

#: An object faster than this (m/s) is moving (docs/model.md, "Head, targets, decoding").
MOVING_SPEED = 0.2


def boxes_to_submission(
    sample_token: str,
    boxes: Boxes3D,
    scores: Tensor,
    labels: Tensor,
    *,
    key_ego2global: Tensor,
    classes: ClassSet,
    max_boxes: int = MAX_BOXES_PER_SAMPLE,
) -> list[dict[str, Any]]:
    """Converts the detections of one sample to submission boxes, sorted by descending score.

    Args:
        sample_token: the sample.
        boxes: M boxes in key ego. The submitted z is that of the centre, as nuScenes defines it
            (docs/model.md, "Paper and release").
        scores: (M,) confidences.
        labels: (M,) class ids.
        key_ego2global: (4, 4) rigid transform. Its full rotation applies to the boxes, so they stay
            upright in the ego frame.
        classes: the classes.
        max_boxes: number of boxes to keep, by score.

    Raises:
        ValueError: a value is not finite, a size is not positive, a label is out of range, or the
            pose is not rigid; the message names the sample.
    """
    boxes, scores, labels = _checked_on_cpu(sample_token, boxes, scores, labels, len(classes))
    # Stable, so that max_boxes keeps the first of several boxes with equal scores.
    best = torch.sort(scores, descending=True, stable=True).indices[:max_boxes]
    boxes, scores, labels = boxes[best], scores[best], labels[best]

    ego2global = key_ego2global.double().cpu()
    rotations = _box_rotations(_quaternion(sample_token, ego2global), boxes.yaw)
    velocity = boxes.velocity @ ego2global[:2, :2].mT
    speeds = boxes.velocity.norm(dim=-1).tolist()
    names = [classes.names[i] for i in labels.tolist()]
    columns = zip(
        transform_points(boxes.centers, ego2global).tolist(),
        boxes.dims[:, [1, 0, 2]].tolist(),  # nuScenes writes width before length
        rotations.tolist(),
        velocity.tolist(),
        names,
        scores.tolist(),
        map(partial(attribute_of, classes), names, speeds),
        strict=True,
    )
    result = [
        {
            "sample_token": sample_token,
            "translation": translation,
            "size": size,
            "rotation": rotation,
            "velocity": speed,
            "detection_name": name,
            "detection_score": score,
            "attribute_name": attribute,
        }
        for translation, size, rotation, speed, name, score, attribute in columns
    ]
    check_boxes(sample_token, result, classes)
    return result


def boxes_from_submission(
    submitted: Sequence[dict[str, Any]], *, key_ego2global: Tensor, classes: ClassSet
) -> tuple[Boxes3D, Tensor, Tensor]:
    """Converts the submission boxes of one sample to key ego, the inverse of
    :func:`boxes_to_submission`.

    Args:
        submitted: M checked boxes.
        key_ego2global: (4, 4) rigid transform.
        classes: the classes.

    Returns:
        M boxes in key ego (float32), (M,) scores (float32), (M,) class ids (int64).

    Raises:
        ValueError: a box has another class.
    """
    unknown = {box["detection_name"] for box in submitted} - set(classes.names)
    if unknown:
        raise ValueError(
            f"unknown classes {sorted(unknown)}; expected some of {list(classes.names)}"
        )
    index = {name: i for i, name in enumerate(classes.names)}
    global2keyego = invert(key_ego2global.double().cpu())
    columns = {
        key: torch.tensor([box[key] for box in submitted], dtype=torch.float64).reshape(-1, length)
        for key, length in _VECTOR_LENGTHS.items()
    }
    # The box's x axis in the global frame. Its direction on the ego's ground plane is the yaw, also
    # for a rotation with pitch or roll.
    headings = [Quaternion(box["rotation"]).rotation_matrix[:, 0] for box in submitted]
    heading = torch.tensor(np.array(headings)).reshape(-1, 3) @ global2keyego[:3, :3].mT
    rows = torch.cat(
        [
            transform_points(columns["translation"], global2keyego),
            columns["size"][:, [1, 0, 2]],
            torch.atan2(heading[:, 1:2], heading[:, 0:1]),
            columns["velocity"] @ global2keyego[:2, :2].mT,
        ],
        dim=1,
    )
    scores = torch.tensor([box["detection_score"] for box in submitted], dtype=torch.float32)
    labels = torch.tensor([index[box["detection_name"]] for box in submitted], dtype=torch.int64)
    return Boxes3D(rows.float()), scores, labels


def sample_predictions(
    frame: Frame,
    results: Mapping[str, Sequence[dict[str, Any]]],
    score: float,
    classes: ClassSet,
) -> LabelledBoxes:
    """Returns the submission boxes of one sample in key ego.

    Args:
        frame: the sample's row of the frame index.
        results: submission boxes by sample token.
        score: lowest score of the returned boxes.
        classes: the classes.

    Raises:
        ValueError: ``results`` does not have the sample.
    """
    if frame.sample_token not in results:
        raise ValueError(
            f"the submission has no sample {frame.sample_token}; is it of the index's split?"
        )
    boxes, scores, labels = boxes_from_submission(
        results[frame.sample_token],
        key_ego2global=torch.tensor(frame.key_ego2global),
        classes=classes,
    )
    return LabelledBoxes(boxes, labels, scores).at_least(score)


def check_boxes(sample_token: str, boxes: Sequence[dict[str, Any]], classes: ClassSet) -> None:
    """Checks the boxes of one sample against nuScenes' format.

    Raises:
        ValueError: a box violates the format; the message names the sample and the box.
    """
    if not isinstance(boxes, Sequence):
        raise ValueError(f"sample {sample_token} has no list of boxes, but {reprlib.repr(boxes)}")
    if len(boxes) > MAX_BOXES_PER_SAMPLE:
        raise ValueError(
            f"sample {sample_token} has {len(boxes)} boxes; nuScenes accepts at most "
            f"{MAX_BOXES_PER_SAMPLE}: keep those of highest score"
        )
    attributes = allowed_attributes(classes)
    for number, box in enumerate(boxes):
        for violation in format_violations(sample_token, box, attributes):
            raise ValueError(f"sample {sample_token}, box {number}: {violation}")


def check_sample_tokens(submitted: Collection[str], expected: Collection[str], where: str) -> None:
    """Checks that predictions cover exactly the samples of a data set or split.

    Args:
        submitted: sample tokens that have predictions.
        expected: sample tokens of the data set.
        where: the data set, for the message.

    Raises:
        ValueError: samples are missing, or are not in the data set.
    """
    for problem in sample_token_problems(submitted, expected, where):
        raise ValueError(problem)


def sample_token_problems(
    submitted: Collection[str], expected: Collection[str], where: str
) -> list[str]:
    """Returns sentences about missing samples and those of other data, which
    :func:`check_sample_tokens` refuses; arguments as there."""
    problems = []
    missing = sorted(set(expected) - set(submitted))
    if missing:
        problems.append(
            f"{len(missing)} of {len(set(expected))} samples of {where} have no predictions, "
            f"first {missing[:3]}; run the model over all samples"
        )
    foreign = sorted(set(submitted) - set(expected))
    if foreign:
        problems.append(
            f"{len(foreign)} samples with predictions are not in {where}, first {foreign[:3]}; "
            "evaluate the data that the predictions are of"
        )
    return problems


def write_submission(
    results: Mapping[str, Sequence[dict[str, Any]]], path: str | os.PathLike
) -> None:
    """Writes a submission file atomically.

    Args:
        results: checked submission boxes by sample token.
        path: the file.

    Raises:
        OSError: the file cannot be written.
    """
    is_encoded = isinstance(results, EncodedSubmission)
    with atomic_write(path) as file:
        file.write(f'{{"meta": {json.dumps(META)}, "results": {{'.encode())
        # One sample at a time: json.dumps of all results would hold the whole file in memory.
        for number, token in enumerate(results):
            text = results.texts[token] if is_encoded else json.dumps(results[token]).encode()
            file.write(f"{', ' if number else ''}{json.dumps(token)}: ".encode() + text)
        file.write(b"}}")


def read_submission(path: str | os.PathLike, classes: ClassSet) -> dict[str, list[dict[str, Any]]]:
    """Reads and checks a submission file.

    Args:
        path: path of the file.
        classes: classes that the boxes may have.

    Returns:
        Submission boxes by sample token.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a submission or a box violates nuScenes' format.
    """
    try:
        results = parse_submission(path)["results"]
        for sample_token, boxes in results.items():
            check_boxes(sample_token, boxes, classes)
    except ValueError as error:
        raise ValueError(f"{path} is not a nuScenes submission: {error}") from error
    return results


def parse_submission(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a submission file without checking its boxes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON in UTF-8, or has no dict under 'results'.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError as error:
        raise ValueError(f"its JSON is nested too deep ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise ValueError("it has no dict under 'results'")
    return content


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds the dict of a JSON object. ``json`` silently keeps the last of repeated names.

    Raises:
        ValueError: a name is repeated.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise ValueError(f"{repeated!r} appears twice")
    return found


def _checked_on_cpu(
    sample_token: str, boxes: Boxes3D, scores: Tensor, labels: Tensor, num_classes: int
) -> tuple[Boxes3D, Tensor, Tensor]:
    """Moves detections to the CPU, boxes and scores in float64, and checks lengths and labels.

    Raises:
        ValueError: the lengths differ or a label is out of range; the message names the sample.
    """
    if not len(boxes) == len(scores) == len(labels):
        raise ValueError(
            f"sample {sample_token}: {len(boxes)} boxes, {len(scores)} scores and "
            f"{len(labels)} labels; there must be one of each per detection"
        )
    labels = labels.cpu()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(
            f"sample {sample_token}: labels must be 0 to {num_classes - 1}, got "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    return boxes.to("cpu", torch.float64), scores.detach().double().cpu(), labels


def _quaternion(sample_token: str, a2b: Tensor) -> Quaternion:
    """Returns the rotation of a rigid (4, 4) transform.

    Raises:
        ValueError: the transform's linear part is not a rotation.
    """
    try:
        # pyquaternion's own tolerance, 1e-8, rejects rotations that were rounded to float32.
        return Quaternion(matrix=a2b[:3, :3].numpy(), rtol=1e-4, atol=1e-4)
    except ValueError as error:
        raise ValueError(
            f"sample {sample_token}: the pose's linear part must be a rotation, got "
            f"{a2b[:3, :3].tolist()}"
        ) from error


def _box_rotations(rotation: Quaternion, yaw: Tensor) -> Tensor:
    """Returns (M, 4) quaternions w, x, y, z: ``rotation`` times the rotation by each yaw about z.

    Args:
        rotation: ego -> global.
        yaw: (M,) headings in the ego frame, rad.
    """
    w, x, y, z = rotation.elements.tolist()
    cos, sin = torch.cos(yaw / 2), torch.sin(yaw / 2)
    columns = (w * cos - z * sin, x * cos + y * sin, y * cos - x * sin, z * cos + w * sin)
    return torch.stack(columns, dim=1)


def are_finite_numbers(values: Sequence[Any]) -> bool:
    """Whether all values are finite floats or integers within the range of a float."""
    try:
        return _NUMBER_TYPES.issuperset(map(type, values)) and all(map(math.isfinite, values))
    except OverflowError:  # an integer beyond the range of a float
        return False


def allowed_attributes(classes: ClassSet) -> dict[str, list[str]]:
    """Returns the attributes that a box of each class may have: its own or none, and those of
    nuScenes for a class that has nuScenes' name and attributes."""
    allowed = {}
    for name, own in classes.attributes.items():
        devkit = detection_name_to_rel_attributes(name) if name in DETECTION_NAMES else []
        # The devkit lists no attribute for some classes; theirs is the empty string.
        devkit = devkit or [""]
        allowed[name] = devkit if set(own) <= set(devkit) else list(dict.fromkeys(["", *own]))
    return allowed


class Violation(NamedTuple):
    """A violation of nuScenes' format in a box.

    Attributes:
        key: key of the box, "norm" for the norm of the rotation, "" for the box itself.
        rule: the rule, as a part of a sentence.
        value: text of the value found; "" if the rule says it.
    """

    key: str
    rule: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.rule}, got {self.value}" if self.value else self.rule


def format_violations(
    sample_token: str, box: Any, attributes: Mapping[str, Sequence[str]]
) -> Iterator[Violation]:
    """Yields the violations of nuScenes' format in a box.

    Args:
        sample_token: sample of the box.
        box: the box.
        attributes: class -> attributes that a box may have.
    """
    if not isinstance(box, dict):
        yield Violation("", "it must be a dict", reprlib.repr(box))
        return
    missing = sorted(_KEYS - box.keys())
    if missing:
        yield Violation("", f"it lacks {missing}")
        return
    if box["sample_token"] != sample_token:
        token = reprlib.repr(box["sample_token"])
        yield Violation("sample_token", "sample_token must be that of the sample", token)
    for key, length in _VECTOR_LENGTHS.items():
        vector = box[key]
        is_vector = isinstance(vector, list | tuple) and len(vector) == length
        if not (is_vector and are_finite_numbers(vector)):
            violation = key, f"{key} must be {length} finite numbers"
        elif key == "size" and min(vector) <= 0:
            violation = key, "size must be positive"
        elif key == "rotation" and abs(math.hypot(*vector) - 1) > _QUATERNION_TOLERANCE:
            violation = "norm", "rotation must be a unit quaternion"
        else:
            continue
        yield Violation(*violation, reprlib.repr(vector))
    score, name = box["detection_score"], box["detection_name"]
    if not are_finite_numbers([score]):
        yield Violation("detection_score", "detection_score must be finite", reprlib.repr(score))
    elif score < 0:  # the devkit fails, since it takes 0 for recalls that no score reaches
        yield Violation("detection_score", "detection_score must not be negative", str(score))
    if not isinstance(name, str) or name not in attributes:
        rule = f"detection_name must be one of {list(attributes)}"
        yield Violation("detection_name", rule, reprlib.repr(name))
    elif box["attribute_name"] not in attributes[name]:
        rule = f"attribute_name of a {name} must be one of {attributes[name]}"
        yield Violation("attribute_name", rule, reprlib.repr(box["attribute_name"]))


def attribute_of(classes: ClassSet, name: str, speed: float) -> str:
    """Returns the attribute of a detection, derived from its speed.

    Args:
        classes: the classes.
        name: name of the detection's class.
        speed: m/s.

    Returns:
        Attribute name of an object at rest, or above ``MOVING_SPEED`` of a moving one; "" for
        classes without attributes.

    Raises:
        ValueError: ``name`` is not one of the classes.
    """
    if name not in classes.attributes:
        raise ValueError(f"there is no class {name!r}; the classes are {', '.join(classes.names)}")
    at_rest, moving = classes.attributes[name]
    return moving if speed > MOVING_SPEED else at_rest
