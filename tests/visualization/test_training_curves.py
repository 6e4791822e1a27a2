"""Training curves: selection of scalars, smoothing, the image."""

import numpy as np
import pytest

from fsdbev.visualization import Scalar, training_curves
from fsdbev.visualization.training_curves import loss_terms, metrics_of


def scalar(*values, start=0):
    return Scalar(np.arange(start, start + len(values)), np.array(values, float))


def test_terms_of_tasks_are_added_up():
    scalars = {
        "total_loss": scalar(9, 9),
        "task0.loss_xy": scalar(1, 2),
        "task1.loss_xy": scalar(10, 20, 30),
        "loss_depth": scalar(5),
        "lr": scalar(1),
        "nuscenes/loss": scalar(1),
    }
    terms = loss_terms(scalars)
    assert set(terms) == {"xy", "depth"}
    assert terms["xy"].iterations.tolist() == [0, 1, 2]
    assert terms["xy"].values.tolist() == [11, 22, 30]


def test_main_metrics_are_selected():
    names = ("nuscenes/AP_car", "nuscenes/NDS", "nuscenes/mAP", "lr")
    assert list(metrics_of({name: scalar(1) for name in names})) == ["mAP", "NDS"]
    assert list(metrics_of({f"toy/{i}": scalar(1) for i in range(9)})) == list("012345")


def test_smoothing_keeps_means_and_length():
    values = np.random.default_rng(0).random(200)
    smooth = Scalar(np.arange(200), values).smoothed()
    assert len(smooth) == 200 and smooth.std() < 0.5 * values.std()
    assert smooth[100] == pytest.approx(values[95:106].mean())
    assert scalar(3).smoothed().tolist() == [3]
    np.testing.assert_allclose(scalar(*[2.0] * 50).smoothed(), 2.0)


@pytest.mark.parametrize(
    "scalars",
    [
        {"lr": scalar(0.1)},
        {"total_loss": scalar(0.0, 0.0), "loss_a": scalar(0.0, 0.0), "grad_norm": scalar(0, 1)},
        {"loss_a": scalar(1, 0), "loss_b": scalar(1e-9, 1e9), "toy/error": scalar(-1, 2)},
        {f"loss_{i}": scalar(1.0, 1.0) for i in range(25)},
    ],
)
def test_any_scalars_can_be_drawn(scalars):
    picture = training_curves(scalars, "a training")
    assert picture.dtype == np.uint8 and picture.shape == (1140, 1950, 3)
