"""One training step of the small model, and what the reference has of one, under our names."""

from __future__ import annotations

import numpy as np
from relu_units import ReLUUnits
from small_model import TrainingRun, load_model, record, relative_error, samples
from torch import nn

from fsdbev.checkpoint.release import our_name

GRADIENT, LOSS = "grad.", "loss."

#: The release's names of losses that we call otherwise.
_OUR_LOSS = {"loss_bev": "loss_distill", "loss_hm": "loss_foreground", "loss_whl": "loss_dim"}


def our_losses(reference: dict[str, np.ndarray]) -> dict[str, float]:
    """The reference's losses under our names."""
    losses = {}
    for key, value in reference.items():
        if key.startswith(LOSS):
            task, dot, loss = key.removeprefix(LOSS).rpartition(".")
            losses[task + dot + _OUR_LOSS.get(loss, loss)] = float(value)
    return losses


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
