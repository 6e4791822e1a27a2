"""Samples whose predictions are the ground truth, for tests of the evaluators."""

import torch

from fsdbev.d2.structures import Instances
from fsdbev.structures import Boxes3D


def true_output(objects):
    """Returns the output of a perfect model: the objects with points."""
    objects = objects.select(objects.has_points)
    instances = Instances((256, 704))
    instances.pred_boxes_3d = Boxes3D(torch.tensor(objects.boxes))
    instances.scores = torch.linspace(0.9, 0.5, len(objects))  # keeps the order
    instances.pred_classes = torch.tensor(objects.class_ids.astype("int64"))
    return {"instances": instances}


def truth_of(index, row):
    """Returns the sample dict of a row and the output of a perfect model."""
    frame = index[row]
    sample = {
        "sample_token": frame.sample_token,
        "ego2global": torch.tensor(frame.ego2global)[None],
        "reference_camera": frame.reference_camera,
        "bev_aug": torch.eye(4),
    }
    return sample, true_output(index.annotations(row))


def feed(evaluator, pairs):
    for sample, output in pairs:
        evaluator.process([sample], [output])
