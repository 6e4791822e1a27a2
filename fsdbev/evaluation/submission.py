"""The nuScenes detection submission: from and to Boxes3D, its checks, reading and writing.

A submission is ``{"meta": {...}, "results": {sample_token: [box, ...]}}``; a box is a dict in the
global frame: translation (centre), size (width, length, height), rotation (quaternion w, x, y, z),
velocity (x, y), detection_name, detection_score, attribute_name. Shapes: M boxes.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nuscenes.eval.detection.utils import detection_name_to_rel_attributes
from pyquaternion import Quaternion
from torch import Tensor

from fsdbev.data.index.records import Frame
from fsdbev.structures import CLASS_NAMES, Boxes3D, LabelledBoxes, invert, transform_points
from fsdbev.utils.atomic_write import atomic_write

from .encoded import EncodedSubmission

#: nuScenes refuses more boxes than this in one sample.
MAX_BOXES_PER_SAMPLE = 500

#: What the boxes were made from, as nuScenes asks to declare it.
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
_NUMBERS = frozenset((float, int))


#: Above this speed (m/s) an object counts as moving (SPEC section 8).
MOVING_SPEED = 0.2
#: class -> (attribute when slower, attribute when moving); "" where the class has no attributes.
ATTRIBUTE_RULES = {
    "car": ("vehicle.parked", "vehicle.moving"),
    "truck": ("vehicle.parked", "vehicle.moving"),
    "construction_vehicle": ("vehicle.parked", "vehicle.moving"),
    "bus": ("vehicle.stopped", "vehicle.moving"),
    "trailer": ("vehicle.parked", "vehicle.moving"),
    "barrier": ("", ""),
    "motorcycle": ("cycle.without_rider", "cycle.with_rider"),
    "bicycle": ("cycle.without_rider", "cycle.with_rider"),
    "pedestrian": ("pedestrian.standing", "pedestrian.moving"),
    "traffic_cone": ("", ""),
}


def boxes_to_submission(
    sample_token: str,
    boxes: Boxes3D,
    scores: Tensor,
    labels: Tensor,
    *,
    key_ego2global: Tensor,
    class_names: Sequence[str],
    max_boxes: int = MAX_BOXES_PER_SAMPLE,
) -> list[dict[str, Any]]:
    """Detections of one sample as submission boxes, best score first, at most ``max_boxes``.

    Args:
        boxes: M boxes in key ego; the submitted z is the centre's.
        scores: (M,) confidences.
        labels: (M,) integer indices into ``class_names``.
        key_ego2global: (4, 4) rigid transform; its full rotation turns the box, so the box stays
            upright in the ego frame.

    Raises:
        ValueError: names the sample where a value is not finite, a size not positive, a label out
            of range or the pose no rotation.
    """
    boxes, scores, labels = _on_cpu(sample_token, boxes, scores, labels, len(class_names))
    best = torch.sort(scores, descending=True, stable=True).indices[:max_boxes]
    boxes, scores, labels = boxes[best], scores[best], labels[best]

    ego2global = key_ego2global.double().cpu()
    rotations = _turned(_quaternion(sample_token, ego2global), boxes.yaw)
    velocity = boxes.velocity @ ego2global[:2, :2].mT
    speeds = boxes.velocity.norm(dim=-1).tolist()
    names = [class_names[i] for i in labels.tolist()]
    columns = zip(
        transform_points(boxes.centers, ego2global).tolist(),
        boxes.dims[:, [1, 0, 2]].tolist(),
        rotations.tolist(),
        velocity.tolist(),
        names,
        scores.tolist(),
        map(attribute_of, names, speeds),
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
    check_boxes(sample_token, result)
    return result


def boxes_from_submission(
    submitted: Sequence[dict[str, Any]], *, key_ego2global: Tensor, class_names: Sequence[str]
) -> tuple[Boxes3D, Tensor, Tensor]:
    """Inverse of :func:`boxes_to_submission`: submitted boxes of one sample in key ego.

    Returns:
        M boxes in key ego (float32), (M,) scores, (M,) labels into ``class_names``.
    """
    unknown = {box["detection_name"] for box in submitted} - set(class_names)
    if unknown:
        raise ValueError(f"unknown classes {sorted(unknown)}; expected some of {list(class_names)}")
    index = {name: i for i, name in enumerate(class_names)}
    global2keyego = invert(key_ego2global.double().cpu())
    columns = {
        key: torch.tensor([box[key] for box in submitted], dtype=torch.float64).reshape(-1, length)
        for key, length in _VECTOR_LENGTHS.items()
    }
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


def predictions_of(
    frame: Frame, results: Mapping[str, Sequence[dict[str, Any]]], score: float
) -> LabelledBoxes:
    """The submitted boxes of one sample that score ``score`` or more, in key ego.

    Args:
        results: submission boxes by sample token.

    Raises:
        ValueError: the sample is not among them.
    """
    if frame.sample_token not in results:
        raise ValueError(
            f"the submission has no sample {frame.sample_token}; it must be of the index' split"
        )
    boxes, scores, labels = boxes_from_submission(
        results[frame.sample_token],
        key_ego2global=torch.tensor(frame.key_ego2global),
        class_names=CLASS_NAMES,
    )
    return LabelledBoxes(boxes, labels, scores).at_least(score)


def check_boxes(sample_token: str, boxes: Sequence[dict[str, Any]]) -> None:
    """Raises ValueError, naming the sample and the box, where a box breaks nuScenes' format."""
    if not isinstance(boxes, Sequence):
        raise ValueError(f"sample {sample_token} has no list of boxes, but {reprlib.repr(boxes)}")
    if len(boxes) > MAX_BOXES_PER_SAMPLE:
        raise ValueError(
            f"sample {sample_token} has {len(boxes)} boxes; nuScenes takes at most "
            f"{MAX_BOXES_PER_SAMPLE}: keep the best by score"
        )
    for number, box in enumerate(boxes):
        problem = _problem_of(sample_token, box)
        if problem:
            raise ValueError(f"sample {sample_token}, box {number}: {problem}")


def check_sample_tokens(submitted: Collection[str], expected: Collection[str], split: str) -> None:
    """Raises ValueError unless exactly the samples of the split are there."""
    missing = sorted(set(expected) - set(submitted))
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(set(expected))} samples of split {split!r} have no "
            f"predictions, first {missing[:3]}; run the model over the whole split"
        )
    foreign = sorted(set(submitted) - set(expected))
    if foreign:
        raise ValueError(
            f"{len(foreign)} samples with predictions are not in split {split!r}, first "
            f"{foreign[:3]}; evaluate the split that the data loader reads"
        )


def write_submission(
    results: Mapping[str, Sequence[dict[str, Any]]], path: str | os.PathLike
) -> None:
    """Writes ``{"meta", "results"}`` atomically."""
    is_encoded = isinstance(results, EncodedSubmission)
    with atomic_write(path) as file:
        file.write(f'{{"meta": {json.dumps(META)}, "results": {{'.encode())
        # A sample at a time: the quick encoder makes one string of what it is given.
        for number, token in enumerate(results):
            text = results.texts[token] if is_encoded else json.dumps(results[token]).encode()
            file.write(f"{', ' if number else ''}{json.dumps(token)}: ".encode() + text)
        file.write(b"}}")


def read_submission(path: str | os.PathLike) -> dict[str, list[dict[str, Any]]]:
    """The results of a submission file, boxes by sample token, checked."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = json.loads(text, object_pairs_hook=_without_duplicates)
        if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
            raise ValueError("it has no dict under 'results'")
        for sample_token, boxes in content["results"].items():
            check_boxes(sample_token, boxes)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} is no nuScenes submission: {error}") from error
    return content["results"]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def write_json(content: Any, path: str | os.PathLike, indent: int | None = None) -> None:
    """Writes JSON atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=indent).encode())


def _on_cpu(
    sample_token: str, boxes: Boxes3D, scores: Tensor, labels: Tensor, num_classes: int
) -> tuple[Boxes3D, Tensor, Tensor]:
    """The three on the CPU, boxes and scores in float64, with matching lengths and valid labels."""
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
    """Rotation of a rigid (4, 4) transform."""
    try:
        return Quaternion(matrix=a2b[:3, :3].numpy(), rtol=1e-4, atol=1e-4)
    except ValueError as error:
        raise ValueError(
            f"sample {sample_token}: the pose's linear part must be a rotation, got "
            f"{a2b[:3, :3].tolist()}"
        ) from error


def _turned(rotation: Quaternion, yaw: Tensor) -> Tensor:
    """(M, 4) quaternions w, x, y, z: first a turn by each yaw about z, then the rotation."""
    w, x, y, z = rotation.elements.tolist()
    cos, sin = torch.cos(yaw / 2), torch.sin(yaw / 2)
    columns = (w * cos - z * sin, x * cos + y * sin, y * cos - x * sin, z * cos + w * sin)
    return torch.stack(columns, dim=1)


def _are_numbers(values: Sequence[Any]) -> bool:
    """Finite ones, and no truth values; whole numbers too if they fit a float."""
    try:
        return _NUMBERS.issuperset(map(type, values)) and all(map(math.isfinite, values))
    except OverflowError:
        return False


def _problem_of(sample_token: str, box: dict[str, Any]) -> str | None:
    """What is wrong with one submission box, or None."""
    if not isinstance(box, dict):
        return f"it is no dict: {reprlib.repr(box)}"
    missing = sorted(_KEYS - box.keys())
    if missing:
        return f"it lacks {missing}"
    if box["sample_token"] != sample_token:
        return f"it carries sample_token {box['sample_token']}"
    for key, length in _VECTOR_LENGTHS.items():
        vector = box[key]
        numbers = isinstance(vector, list | tuple) and len(vector) == length
        if not (numbers and _are_numbers(vector)):
            return f"{key} must be {length} finite numbers, got {reprlib.repr(vector)}"
    if min(box["size"]) <= 0:
        return f"size must be positive, got {box['size']}"
    norm = math.hypot(*box["rotation"])
    if abs(norm - 1) > _QUATERNION_TOLERANCE:
        return f"rotation must be a unit quaternion, got {box['rotation']} of norm {norm}"
    name, attribute = box["detection_name"], box["attribute_name"]
    if not _are_numbers([box["detection_score"]]):
        return f"detection_score must be finite, got {reprlib.repr(box['detection_score'])}"
    if not isinstance(name, str) or name not in ATTRIBUTE_RULES:
        return f"detection_name must be one of {list(ATTRIBUTE_RULES)}, got {name!r}"
    allowed = detection_name_to_rel_attributes(name) or [""]
    if attribute not in allowed:
        return f"attribute_name of a {name} must be one of {allowed}, got {attribute!r}"
    return None


def attribute_of(class_name: str, speed: float) -> str:
    """Attribute name of one detection; ``speed`` in m/s. "" for classes without attributes."""
    if class_name not in ATTRIBUTE_RULES:
        known = ", ".join(ATTRIBUTE_RULES)
        raise ValueError(f"no attribute rule for class {class_name!r}; there are some for {known}")
    return ATTRIBUTE_RULES[class_name][speed > MOVING_SPEED]
