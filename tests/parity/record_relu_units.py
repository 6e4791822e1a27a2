"""Finds the units of relu_units.npz anew; takes minutes. Run it as a script."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

# ruff: noqa: E402  after the path is set, for use without installation
import cases
from relu_units import FILE, ReLUUnits
from small_model import TRAINING_RUNS, TrainingRun
from training_step import gradient_errors, training_step


def find_units(gradient_error: Callable[[ReLUUnits], float]) -> ReLUUnits:
    """Pins the units at zero as this machine has them, then switches those that bring gradients
    closer to the reference's, the ones nearest to zero first.

    Args:
        gradient_error: of a training step with the given units.
    """
    nothing = torch.zeros(0, dtype=torch.int64)
    found = ReLUUnits(nothing, nothing, nothing.bool(), look=True)
    error = gradient_error(found)
    call, index, value = (torch.tensor(column) for column in zip(*found.at_zero))
    on = value > 0
    for k in value.abs().argsort()[:200].tolist():
        if error < 2e-5:
            break
        on[k] ^= True
        switched = gradient_error(ReLUUnits(call, index, on))
        if switched < 0.9 * error:
            error = switched
        else:
            on[k] ^= True
    return ReLUUnits(call, index, on)


def record_run(run: TrainingRun) -> ReLUUnits:
    """The units of a run, found with the very images of the reference: ``cases.batch`` gives RGB,
    whose normalisation rounds once more."""

    def worst(units: ReLUUnits) -> float:
        overrides = ("model.pixel_mean=[0,0,0]", "model.pixel_std=[1,1,1]")
        model, _ = training_step(run, units, *overrides)
        return max(gradient_errors(model, run.reference()).values())

    with mock.patch.multiple(cases, MEAN=np.float32(0), STD=np.float32(1)):
        units = find_units(worst)
        print(f"{run}: {len(units.call)} units, gradients within {worst(units):.1e}", flush=True)
    return units


def main() -> None:
    arrays = {}
    for name, run in TRAINING_RUNS.items():
        units = record_run(run)
        arrays[f"{name}/call"] = units.call.numpy().astype(np.int16)
        arrays[f"{name}/index"] = units.index.numpy().astype(np.int32)
        arrays[f"{name}/on"] = units.on.numpy()
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
