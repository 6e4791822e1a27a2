"""Uncertainty of a comparison: bootstrap over the evaluated scenes, Student's t over the seeds.

Every run is evaluated on the same random draws of its scenes (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993), so that differences between configs are paired. Seeds are too
few for a bootstrap: the 95 % percentile interval of three seeds is their range, which has the true
median in 75 % of cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, t

from fsdbev.d2.config import instantiate
from fsdbev.evaluation.metrics import compute_metrics
from fsdbev.evaluation.nuscenes_truth import TableTruth
from fsdbev.evaluation.results_file import read_results
from fsdbev.evaluation.scoring import compute_scores

from .entries import Entry

METRICS = ("mAP", "NDS")
#: Number of draws of scenes. Existing records need the same number and random generator: a
#: difference is computed on equal draws.
DRAWS = 200
#: Probability below the upper end of a 95 % interval.
_UPPER = 0.975


def evaluate_draws(entry: Entry, results: Path) -> dict[str, list[float]]:
    """Computes the metrics of a results file on random draws of its scenes, with replacement.

    Args:
        entry: config of the run.
        results: its file of predictions.

    Returns:
        mAP and NDS of each of the ``DRAWS`` draws.
    """
    data = entry.cfg.dataloader
    source = TableTruth(
        classes=entry.classes,
        dataset=instantiate(data.evaluator.dataset),
        unseen_objects=data.evaluator.unseen_objects,
        dataroot=data.dataroot,
        version=data.version,
        split=data.test_split,
    )
    matches = compute_scores(read_results(str(results), source).boxes, source).matches
    names, scene = np.unique(list(source.scenes.values()), return_inverse=True)
    count = len(names)
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

    The half-width is sqrt(a² + b²): a is 1.96 times the standard deviation over the draws of
    scenes, b the standard error over the seeds times the quantile of Student's t. A single seed has
    no b: how much other seeds differ is unknown. The normal approximation in a is narrow for few
    scenes: by 6 % with 30.

    Args:
        runs: seed -> run of a record.
        metric: "mAP" or "NDS".
        over: seed -> run of the other config; only seeds that both have count.

    Returns:
        ``mean``, half-width ``half`` and the ``seeds``; None without a common seed.
    """
    seeds = [seed for seed in runs if over is None or seed in over]
    if not seeds:
        return None
    values = np.array([_values(runs[seed], metric) for seed in seeds])
    if over is not None:
        values -= [_values(over[seed], metric) for seed in seeds]
    mean, *draws = values.mean(axis=0)
    half = norm.ppf(_UPPER) * np.std(draws)
    if len(seeds) > 1:
        error = np.std(values[:, 0], ddof=1) / np.sqrt(len(seeds))
        half = np.hypot(half, t.ppf(_UPPER, len(seeds) - 1) * error)
    return {"mean": float(mean), "half": float(half), "seeds": seeds}


def _values(run: Mapping[str, Any], metric: str) -> Sequence[float]:
    """Returns the metric on all scenes, then on the R draws."""
    return [run["metrics"][metric], *map(float, run["draws"][metric].split())]
