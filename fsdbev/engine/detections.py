"""Detections of a submission as boxes around a sample of a frame index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fsdbev.data.records import Frame
from fsdbev.evaluation import boxes_from_submission
from fsdbev.structures import CLASS_NAMES, LabelledBoxes


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
