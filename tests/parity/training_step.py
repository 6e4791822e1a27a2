"""One training step of the small model, and how far its gradients are from the reference's."""

from __future__ import annotations

import numpy as np
from relu_units import ReLUUnits
from small_model import TrainingRun, load_model, record, relative_error, samples
from torch import nn

from fsdbev.checkpoint.release import our_name

GRADIENT = "grad."


def training_step(run: TrainingRun, units: ReLUUnits, *overrides: str) -> tuple[nn.Module, dict]:
    """The model with its gradients, and the outputs of its parts."""
    model = load_model(run.case, f"model.teacher_fill={run.fill}", *overrides).train()
    outputs = record(model, "view_transform", "bev_encoder")
    with units.in_place():
        outputs["losses"] = model(samples(run.case))
    sum(outputs["losses"].values()).backward()
    return model, outputs


def gradient_errors(model: nn.Module, reference: dict[str, np.ndarray]) -> dict[str, float]:
    """The release's name -> distance of our gradient from the reference's over its norm."""
    parameters = dict(model.named_parameters())
    names = [key.removeprefix(GRADIENT) for key in reference if key.startswith(GRADIENT)]
    return {
        name: relative_error(parameters[our_name(name)].grad, reference[GRADIENT + name])
        for name in names
    }
