"""Uncertainty of a comparison: bootstrap over the evaluated scenes and the seeds.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993. Every run is evaluated on the same
random draws of scenes, so that differences between configs are paired.

Shapes: S samples, R draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsdbev.evaluation.metrics import compute_metrics
from fsdbev.evaluation.nuscenes_truth import TableTruth
from fsdbev.evaluation.results_file import read_results
from fsdbev.evaluation.scoring import compute_scores

from .entries import Entry

METRICS = ("mAP", "NDS")
#: Draws of scenes, draws of seeds for each of them, and the ends of a 95 % interval.
DRAWS, _SEED_DRAWS, _ENDS = 200, 20, (2.5, 97.5)


def evaluate_draws(entry: Entry, results: Path) -> dict[str, list[float]]:
    """Computes the metrics of a results file on random draws of its scenes, with replacement.

    Args:
        entry: config of the run.
        results: its file of predictions.

    Returns:
        mAP and NDS of each of the R draws.
    """
    data = entry.cfg.dataloader
    source = TableTruth(
        classes=entry.classes,
        unseen_objects="count",
        dataroot=data.dataroot,
        version=data.version,
        split=data.test_split,
    )
    matches = compute_scores(read_results(str(results), source).boxes, source).matches
    _, scene = np.unique(list(source.scenes.values()), return_inverse=True)
    count = scene.max() + 1
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    for drawn in np.random.default_rng(0).integers(count, size=(DRAWS, count)):
        times = np.bincount(drawn, minlength=count)[scene]
        metrics, _ = compute_metrics(matches, source.task, times)
        for name, value in zip(METRICS, (metrics.mean_ap, metrics.nd_score), strict=True):
            found[name].append(float(value))
    return found


def interval(
    runs: Mapping[str, Any], metric: str, over: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Computes mean and 95 % interval of a metric, or of its difference from another config.

    Seeds are drawn with replacement too. With few seeds the interval is somewhat too narrow: by the
    factor sqrt(1 - 1 / n) for n seeds.

    Args:
        runs: seed -> run of a record.
        metric: "mAP" or "NDS".
        over: seed -> run of the other config; only seeds that both have count.

    Returns:
        ``mean``, ``low``, ``high`` and the ``seeds``; None without a common seed.
    """
    seeds = [seed for seed in runs if over is None or seed in over]
    if not seeds:
        return None
    values = np.array([_values(runs[seed], metric) for seed in seeds])
    if over is not None:
        values -= [_values(over[seed], metric) for seed in seeds]
    mean, draws = values[:, 0].mean(), values[:, 1:]
    chosen = np.random.default_rng(0).integers(len(seeds), size=(_SEED_DRAWS, *draws.shape))
    means = np.take_along_axis(draws[None], chosen, axis=1).mean(axis=1)
    low, high = np.percentile(means, _ENDS)
    return {"mean": float(mean), "low": float(low), "high": float(high), "seeds": seeds}


def _values(run: Mapping[str, Any], metric: str) -> Sequence[float]:
    """Returns the metric on all scenes, then on the R draws."""
    return [run["metrics"][metric], *map(float, run["draws"][metric].split())]
