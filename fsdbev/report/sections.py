"""Sections of the report: what an analysis of detections says, as tables and charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsdbev.config.difference import Change
from fsdbev.evaluation import (
    BAND_STARTS,
    CLASSES,
    TP_ERROR_NAMES,
    Analysis,
    DistanceBands,
    ScoredDetections,
)
from fsdbev.utils.collect_env import environment

from .charts import ErrorKind, class_curves, error_histograms, score_charts
from .page import Cell, Chart, Headline, Section, Table

_MEANINGS = {
    "mAP": "Mean average precision: the area under the precision-recall curve, averaged over "
    "classes and over the distances up to which a box counts as found. 1 is best.",
    "NDS": "nuScenes detection score: mAP and the five errors below in one number, half and half. "
    "1 is best.",
    "mATE": "Translation: metres between the centres of found and true boxes, seen from above.",
    "mASE": "Scale: 1 minus the overlap of the two boxes when laid into each other.",
    "mAOE": "Orientation: radians between the headings.",
    "mAVE": "Velocity: m/s between the velocities.",
    "mAAE": "Attribute: share of the found boxes whose attribute (moving, parked ...) is wrong.",
}
#: Metric of the analysis -> name, unit, factor from its own unit, end of the axis.
_HISTOGRAMS = {
    "trans_err": ("translation", "m", 1.0, None),
    "scale_err": ("scale, 1 − overlap", "", 1.0, 1.0),
    "orient_err": ("orientation", "degrees", 180 / math.pi, 180.0),
    "vel_err": ("velocity", "m/s", 1.0, 6.0),
}


NOTHING = "–"


def headlines(summary: Mapping[str, Any]) -> list[Headline]:
    """Of the devkit's summary."""
    values = {"mAP": summary["mean_ap"], "NDS": summary["nd_score"]}
    values |= {name: summary["tp_errors"][key] for key, name in TP_ERROR_NAMES.items()}
    return [
        Headline(name, fraction(value, 4), _MEANINGS[name], is_main=name in ("mAP", "NDS"))
        for name, value in values.items()
    ]


def detection_sections(scored: ScoredDetections) -> list[Section]:
    """All that is told of the detections, but samples."""
    analysis = scored.analysis
    return [
        _class_section(scored.summary, analysis),
        _distance_section(scored.summary, analysis),
        _curve_section(scored.summary, analysis),
        _error_section(analysis),
        _score_section(analysis),
        _confusion_section(analysis),
    ]


def _class_section(summary: Mapping[str, Any], analysis: Analysis) -> Section:
    text = [
        "Average precision (AP) by the distance up to which a prediction finds a true box, and "
        "the errors of the boxes found within "
        f"{analysis.error_threshold:g} m. A dash: the class has no such error.",
    ]
    absent = [class_title(n) for n, count in zip(CLASSES, analysis.num_truth) if not count]
    if absent:
        text.append(
            f"There are no true boxes of: {', '.join(absent)}. As nuScenes has it, such a class "
            "counts in the means with precision 0 and errors of 1."
        )
    distances = [f"AP\u00a0{threshold:g}\u00a0m" for threshold in analysis.thresholds]
    head = ["class", "true boxes", "AP", *distances, *(n[1:] for n in TP_ERROR_NAMES.values())]
    rows = []
    for name, count in zip(CLASSES, analysis.num_truth, strict=True):
        precisions = [summary["label_aps"][name][t] for t in analysis.thresholds]
        errors = [summary["label_tp_errors"][name][key] for key in TP_ERROR_NAMES]
        values = [summary["mean_dist_aps"][name], *precisions]
        rows.append(
            [Cell(class_title(name)), Cell(str(count)), *map(_good, values), *map(_bad, errors)]
        )
    by_distance = [
        np.mean([summary["label_aps"][name][t] for name in CLASSES]) for t in analysis.thresholds
    ]
    errors = [summary["tp_errors"][key] for key in TP_ERROR_NAMES]
    mean = [_good(value) for value in (summary["mean_ap"], *by_distance)]
    total = Cell(str(analysis.num_truth.sum()))
    rows.append([Cell("mean"), total, *mean, *map(_bad, errors)])
    return Section(
        "classes", "By class", text, [Table("Precision and errors by class", head, rows, True)]
    )


def _distance_section(summary: Mapping[str, Any], analysis: Analysis) -> Section:
    bands, score = analysis.bands, analysis.point.score
    text = [
        "By the distance of the true box from the ego vehicle; a prediction that found no box "
        "counts by its own distance. Precision is the mean over the classes that have true boxes "
        "there. Recall is the share of true boxes found within "
        f"{analysis.error_threshold:g} m, by predictions of score {score:.3f} and more, and by "
        "predictions of any score. nuScenes evaluates each class up to a distance of its own, "
        "30 to 50 m.",
    ]
    names = _band_names()
    num_truth = bands.num_truth.sum(axis=0)
    rows = []
    for number, name in enumerate(names):
        found = bands.found_above[:, number].sum(), bands.found[:, number].sum()
        known = bands.average_precision[:, number]
        precision = known[~np.isnan(known)].mean() if num_truth[number] else math.nan
        rows.append([Cell(name), *_band_cells(num_truth[number], precision, found)])
    found = bands.found_above.sum(), bands.found.sum()
    rows.append([Cell("all"), *_band_cells(num_truth.sum(), summary["mean_ap"], found)])
    above = f"recall, score\u00a0≥\u00a0{score:.3f}"
    head = ["distance", "true boxes", "AP", above, "recall, any\u00a0score"]
    tables = [
        Table("All classes by distance", head, rows, last_is_sum=True),
        Table(
            "AP by class and distance (number of true boxes)",
            ["class", *names],
            _classes_by_band(bands),
        ),
    ]
    return Section("distance", "By distance", text, tables)


def _classes_by_band(bands: DistanceBands) -> list[list[Cell]]:
    rows = []
    for name, values, counts in zip(CLASSES, bands.average_precision, bands.num_truth, strict=True):
        cells = [
            Cell(f"{fraction(value)} ({count})", value) if count else Cell(NOTHING)
            for value, count in zip(values, counts, strict=True)
        ]
        rows.append([Cell(class_title(name)), *cells])
    return rows


def _band_names() -> list[str]:
    ends = [f" to {end:g} m" for end in BAND_STARTS[1:]] + ["+ m"]
    names = [f"{start:g}{end}" for start, end in zip(BAND_STARTS, ends, strict=True)]
    return [name.replace(" ", "\u00a0") for name in names]


def _band_cells(count: int, precision: float, found: Sequence[int]) -> list[Cell]:
    shares = [Cell(percent(part, count), part / count if count else None) for part in found]
    return [Cell(str(count)), _good(precision), *shares]


def _curve_section(summary: Mapping[str, Any], analysis: Analysis) -> Section:
    at = analysis.thresholds.index(analysis.error_threshold)
    notes = [
        f"AP {summary['mean_dist_aps'][name]:.3f}" if count else "no true boxes"
        for name, count in zip(CLASSES, analysis.num_truth, strict=True)
    ]
    svg = class_curves(
        [class_title(name) for name in CLASSES],
        analysis.recall,
        analysis.precision[:, at],
        analysis.precision.mean(axis=1),
        notes,
    )
    distances = ", ".join(f"{threshold:g}" for threshold in analysis.thresholds)
    caption = (
        f"Solid: boxes found within {analysis.error_threshold:g} m. Dashed: mean of the curves for "
        f"{distances} m. Average precision leaves out recall and precision below 0.1."
    )
    return Section("curves", "Precision over recall", [], [Chart(svg, caption)])


def _error_section(analysis: Analysis) -> Section:
    kinds = []
    for metric, (name, unit, factor, limit) in _HISTOGRAMS.items():
        values = factor * analysis.errors[metric]
        kinds.append(ErrorKind(name, unit, values, limit or analysis.error_threshold))
    caption = (
        f"Errors of all boxes found within {analysis.error_threshold:g} m, at any score. The line "
        "is the median; errors beyond the axis count in its last bar. Cones have no orientation, "
        "cones and barriers no velocity, and some true boxes have an unknown one."
    )
    return Section(
        "errors", "Errors of the boxes found", [], [Chart(error_histograms(kinds), caption)]
    )


def _score_section(analysis: Analysis) -> Section:
    point = analysis.point
    text = [
        f"With predictions of score {point.score:.3f} and more, precision is "
        f"{point.precision:.3f} and recall {point.recall:.3f} over all classes together "
        f"(boxes found within {analysis.error_threshold:g} m). Their F1, {point.f1:.3f}, is the "
        "best that any one score gives, which is why this score is used for recall by distance, "
        "confusion and samples. It was chosen on the very samples shown here."
    ]
    caption = (
        "Left: how many predictions of each score found an object and how many did not, on a "
        "logarithmic scale. Right: the share that did; on the dotted diagonal a score would be a "
        "probability. Hollow points: few predictions. The line is the score used here."
    )
    svg = score_charts(analysis.found_scores, analysis.false_scores, point.score)
    return Section("scores", "Scores", text, [Chart(svg, caption)])


def _confusion_section(analysis: Analysis) -> Section:
    table = analysis.confusion
    text = [
        f"Predictions of score {analysis.point.score:.3f} and more, best first, each take the "
        "nearest true box of their sample that is free and whose centre is within "
        f"{analysis.error_threshold:g} m, of whatever class. Rows are true classes, columns "
        "predicted ones. The last column are true boxes that no prediction took, the last row "
        "predictions that took none. Tints are shares of a row, in the last row of a column; blue "
        "is right, orange is wrong."
    ]
    by_row = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    by_column = table / np.maximum(1, table.sum(axis=0, keepdims=True))
    heat = np.concatenate([by_row[:-1], by_column[-1:]])
    names = [class_title(name) for name in CLASSES]
    rows = [
        [
            Cell(name),
            *(
                Cell(str(count) if count else "·", share or None, is_bad=row != column)
                for column, (count, share) in enumerate(zip(counts, heat[row], strict=True))
            ),
        ]
        for row, (name, counts) in enumerate(zip([*names, "false alarm"], table, strict=True))
    ]
    rows[-1][-1] = Cell("")
    head = ["true\u00a0↓ predicted\u00a0→", *names, "missed"]
    block = Table("Boxes by true and predicted class", head, rows, last_is_sum=True)
    return Section("confusion", "Confusion of classes", text, [block])


def metrics_section(results: Mapping[str, Any]) -> Section:
    """The bare metrics of any evaluator."""
    rows = [[Cell(name), Cell(value)] for name, value in _flat(results)]
    return Section("metrics", "Metrics", [], [Table("Metrics", ["name", "value"], rows)])


def _flat(results: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in results.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}/")
        else:
            rows.append((f"{prefix}{name}", fraction(float(value), 4)))
    return rows


def config_section(
    overrides: Sequence[str], changes: Sequence[Change] | None, base: str | None
) -> Section:
    """What the command line changed, and what differs from ``base`` (``changes`` None: no base)."""
    text, tables = ["The whole config is in config.yaml beside this page."], []
    if overrides:
        pairs = [override.partition("=") for override in overrides]
        rows = [[Cell(key), Cell(value)] for key, _, value in pairs]
        tables.append(Table("Overrides of the command line", ["key", "value"], rows, is_text=True))
    else:
        text.append("The command line changed nothing in the config file.")
    if changes:
        rows = [[Cell(text) for text in change] for change in changes]
        head = ["key", "base", "here"]
        tables.append(Table(f"Difference from {base}", head, rows, is_text=True))
    elif changes is not None:
        text.append(f"The config has the values of {base}.")
    return Section("config", "Config", text, tables)


def environment_section() -> Section:
    """What it ran on."""
    rows = [[Cell(name), Cell(value)] for name, value in environment().items()]
    table = Table("Versions and machine", ["what", "value"], rows, is_text=True)
    return Section("environment", "Environment", [], [table])


def _good(value: float) -> Cell:
    """A number of which 1 is best."""
    return Cell(fraction(value), value if math.isfinite(value) else None)


def _bad(value: float) -> Cell:
    """An error, 0 is best; from 1 on its tint is full."""
    return Cell(fraction(value), min(1.0, value) if math.isfinite(value) else None, is_bad=True)


def class_title(name: str) -> str:
    return name.replace("_", " ")


def counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def fraction(value: float, digits: int = 3) -> str:
    """A dash where there is no such number."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING


def percent(part: float, whole: float) -> str:
    """A dash for a share of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else NOTHING
