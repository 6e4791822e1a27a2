"""Sections of the report: tables and charts of metrics, analysis, config and environment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsdbev.config.difference import Change
from fsdbev.evaluation import TP_ERROR_NAMES, Analysis, ScoredDetections
from fsdbev.evaluation.metrics import summarize
from fsdbev.utils.collect_env import environment

from .charts import ErrorKind, class_curves, error_histograms, score_charts
from .page import Cell, Chart, Headline, Section, Table

_MEANINGS = {
    "mAP": "Mean average precision: area under the precision-recall curve, averaged over classes "
    "and over the distance thresholds of a match. 1 is best.",
    "NDS": "nuScenes detection score: weighted mean of mAP (weight 5) and those of the five errors "
    "below that a class has (weight 1 each, as 1 − error, at least 0). 1 is best.",
    "mATE": "Translation error: metres between the centres of prediction and ground truth on the "
    "ground plane.",
    "mASE": "Scale error: 1 − IoU of the two boxes after aligning centre and orientation.",
    "mAOE": "Orientation error: difference of the yaw angles, radians.",
    "mAVE": "Velocity error: length of the difference of the velocities, m/s.",
    "mAAE": "Attribute error: share of matches with a wrong attribute (moving, parked, ...).",
}
#: TP metric -> name, unit, factor from the metric's unit, end of the axis (None: the distance
#: threshold, which bounds the translation error).
#: Attribute errors have no histogram: they are 0 or 1.
_HISTOGRAMS = {
    "trans_err": ("translation", "m", 1.0, None),
    "scale_err": ("scale, 1 − IoU", "", 1.0, 1.0),
    "orient_err": ("orientation", "degrees", 180 / math.pi, 180.0),
    "vel_err": ("velocity", "m/s", 1.0, 6.0),
}


#: Cell for an undefined number.
NOTHING = "–"


def headlines(summary: Mapping[str, Any]) -> list[Headline]:
    """Returns mAP, NDS and the five TP errors from the devkit's summary."""
    values = {"mAP": summary["mean_ap"], "NDS": summary["nd_score"]}
    values |= {name: summary["tp_errors"][key] for key, name in TP_ERROR_NAMES.items()}
    return [
        Headline(name, fraction(value, 4), _MEANINGS[name], is_main=name in ("mAP", "NDS"))
        for name, value in values.items()
    ]


def detection_sections(scored: ScoredDetections) -> list[Section]:
    """Creates all sections about detections except the one of single samples."""
    analysis = scored.analysis
    sections = [
        _class_section(scored),
        _distance_section(scored.summary, analysis),
        _curve_section(scored.summary, analysis),
        _error_section(scored.summary, analysis),
        _score_section(analysis),
        _confusion_section(analysis),
    ]
    if scored.official or scored.unofficial:
        sections.append(_official_section(scored))
    return sections


def _class_section(scored: ScoredDetections) -> Section:
    """Creates the table of AP by distance threshold and of TP errors by class."""
    summary, analysis = scored.summary, scored.analysis
    text = [
        "Average precision (AP) at each distance threshold of a match, and the errors of matches "
        f"within {analysis.error_threshold:g} m. A dash marks an error that is not defined for "
        "the class.",
    ]
    absent = [class_title(n) for n, count in zip(analysis.names, analysis.num_truth) if not count]
    if absent:
        text.append(
            f"There are no ground-truth boxes of: {', '.join(absent)}. The means include such a "
            "class with AP 0 and errors of 1."
        )
    text += [f"{note[:1].upper()}{note[1:]}." for note in scored.notes]
    distances = [f"AP\u00a0{threshold:g}\u00a0m" for threshold in analysis.thresholds]
    # Without the "m" of mATE, which stands for the mean over classes.
    error_names = [name[1:] for name in TP_ERROR_NAMES.values()]
    head = ["class", "ground-truth boxes", "AP", *distances, *error_names]
    rows = []
    for name, count in zip(analysis.names, analysis.num_truth, strict=True):
        precisions = [summary["label_aps"][name][t] for t in analysis.thresholds]
        errors = [summary["label_tp_errors"][name][key] for key in TP_ERROR_NAMES]
        values = [summary["mean_dist_aps"][name], *precisions]
        rows.append(
            [Cell(class_title(name)), Cell(str(count)), *map(_good, values), *map(_bad, errors)]
        )
    by_distance = [
        np.mean([aps[threshold] for aps in summary["label_aps"].values()])
        for threshold in analysis.thresholds
    ]
    errors = [summary["tp_errors"][key] for key in TP_ERROR_NAMES]
    mean = [_good(value) for value in (summary["mean_ap"], *by_distance)]
    total = Cell(str(analysis.num_truth.sum()))
    rows.append([Cell("mean"), total, *mean, *map(_bad, errors)])
    return Section(
        "classes", "By class", text, [Table("Precision and errors by class", head, rows, True)]
    )


def _distance_section(summary: Mapping[str, Any], analysis: Analysis) -> Section:
    """Creates the tables of AP and recall by distance."""
    bands, score = analysis.bands, analysis.point.score
    ranges = sorted({f"{m:g}" for m in summary["cfg"]["class_range"].values()}, key=float)
    text = [
        "Matched predictions belong to the distance of their ground-truth box from the ego "
        "vehicle, unmatched ones to their own distance. AP is the mean over the classes that have "
        "ground-truth boxes at this distance. Recall is the share of ground-truth boxes matched "
        f"within {analysis.error_threshold:g} m, by predictions of score {score:.3f} and more, and "
        f"by predictions of any score. Each class is evaluated up to its own range, "
        f"{' to '.join(dict.fromkeys([ranges[0], ranges[-1]]))} m.",
    ]
    names = _band_names(bands.starts)
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
    head = ["distance", "ground-truth boxes", "AP", above, "recall, any\u00a0score"]
    tables = [
        Table("All classes by distance", head, rows, last_is_sum=True),
        Table(
            "AP by class and distance (number of ground-truth boxes)",
            ["class", *names],
            _classes_by_band(analysis),
        ),
    ]
    return Section("distance", "By distance", text, tables)


def _classes_by_band(analysis: Analysis) -> list[list[Cell]]:
    """Returns a row of AP by distance for each class."""
    rows, bands = [], analysis.bands
    columns = (analysis.names, bands.average_precision, bands.num_truth)
    for name, values, counts in zip(*columns, strict=True):
        cells = [
            Cell(f"{fraction(value)} ({count})", value) if count else Cell(NOTHING)
            for value, count in zip(values, counts, strict=True)
        ]
        rows.append([Cell(class_title(name)), *cells])
    return rows


def _band_names(starts: Sequence[float]) -> list[str]:
    """Returns the names of the distance bands, such as "10 to 20 m", with non-breaking spaces."""
    ends = [f" to {end:g} m" for end in starts[1:]] + ["+ m"]
    names = [f"{start:g}{end}" for start, end in zip(starts, ends, strict=True)]
    return [name.replace(" ", "\u00a0") for name in names]


def _band_cells(count: int, precision: float, found: Sequence[int]) -> list[Cell]:
    """Returns the cells of a distance band: number of ground-truth boxes, AP, recalls.

    Args:
        count: number of ground-truth boxes.
        precision: AP.
        found: numbers of true positives, one for each recall.
    """
    shares = [Cell(percent(part, count), part / count if count else None) for part in found]
    return [Cell(str(count)), _good(precision), *shares]


def _curve_section(summary: Mapping[str, Any], analysis: Analysis) -> Section:
    """Creates the precision-recall curves."""
    at = analysis.thresholds.index(analysis.error_threshold)
    notes = [
        f"AP {summary['mean_dist_aps'][name]:.3f}" if count else "no ground truth"
        for name, count in zip(analysis.names, analysis.num_truth, strict=True)
    ]
    svg = class_curves(
        [class_title(name) for name in analysis.names],
        analysis.recall,
        analysis.precision[:, at],
        analysis.precision.mean(axis=1),
        notes,
    )
    distances = ", ".join(f"{threshold:g}" for threshold in analysis.thresholds)
    caption = (
        f"Solid: matches within {analysis.error_threshold:g} m. Dashed: mean of the curves at "
        f"{distances} m. Average precision excludes recall and precision below 0.1."
    )
    return Section("curves", "Precision over recall", [], [Chart(svg, caption)])


def _error_section(summary: Mapping[str, Any], analysis: Analysis) -> Section:
    """Creates the histograms of the TP errors."""
    kinds = []
    for metric, (name, unit, factor, limit) in _HISTOGRAMS.items():
        values = factor * analysis.errors[metric]
        kinds.append(ErrorKind(name, unit, values, limit or analysis.error_threshold))
    caption = (
        f"Errors of all matches within {analysis.error_threshold:g} m, at any score. The line is "
        "the median; errors beyond the axis count in the last bar. Ground-truth boxes of unknown "
        f"velocity have no velocity error.{_undefined_errors(summary)}"
    )
    return Section("errors", "True positive errors", [], [Chart(error_histograms(kinds), caption)])


def _undefined_errors(summary: Mapping[str, Any]) -> str:
    """Returns sentences that name the classes without orientation or velocity error."""
    texts = []
    for metric in ("orient_err", "vel_err"):
        errors = summary["label_tp_errors"]
        names = [class_title(n) for n, values in errors.items() if math.isnan(values[metric])]
        if names:
            kind = _HISTOGRAMS[metric][0]
            texts.append(f" The {kind} error is not defined for: {', '.join(names)}.")
    return "".join(texts)


def _score_section(analysis: Analysis) -> Section:
    """Creates the charts of true and false positives by score."""
    point = analysis.point
    text = [
        f"With predictions of score {point.score:.3f} and more, precision is "
        f"{point.precision:.3f} and recall {point.recall:.3f} over all classes together "
        f"(matches within {analysis.error_threshold:g} m). Their F1, {point.f1:.3f}, is the best "
        "of all score thresholds, so this threshold is used for recall by distance, confusion and "
        "samples. It was chosen on the evaluated samples."
    ]
    caption = (
        "Left: numbers of true and false positives by score, on a logarithmic scale. Right: share "
        "of true positives by score; on the dotted diagonal the score equals the probability of a "
        "true positive. Hollow points: few predictions. Vertical line: the score threshold."
    )
    svg = score_charts(analysis.found_scores, analysis.false_scores, point.score)
    return Section("scores", "Scores", text, [Chart(svg, caption)])


def _confusion_section(analysis: Analysis) -> Section:
    """Creates the confusion table of classes."""
    table = analysis.confusion
    text = [
        f"Predictions of score {analysis.point.score:.3f} and more, in the order of their scores, "
        "match the nearest unmatched ground-truth box of their sample within "
        f"{analysis.error_threshold:g} m, whatever its class. Rows are true classes, columns "
        "predicted classes. The last column counts missed ground-truth boxes, the last row false "
        "positives. Tints are shares of the row, in the last row of the column; blue is correct, "
        "orange is wrong."
    ]
    # Rows and columns without boxes are divided by 1 and stay 0.
    by_row = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    by_column = table / np.maximum(1, table.sum(axis=0, keepdims=True))
    heat = np.concatenate([by_row[:-1], by_column[-1:]])
    names = [class_title(name) for name in analysis.names]
    rows = [
        [
            Cell(name),
            *(
                Cell(str(count) if count else "·", share or None, is_bad=row != column)
                for column, (count, share) in enumerate(zip(counts, heat[row], strict=True))
            ),
        ]
        for row, (name, counts) in enumerate(zip([*names, "false positive"], table, strict=True))
    ]
    rows[-1][-1] = Cell("")  # neither a ground-truth box nor a prediction: nothing to count
    head = ["true\u00a0↓ predicted\u00a0→", *names, "missed"]
    block = Table("Boxes by true and predicted class", head, rows, last_is_sum=True)
    return Section("confusion", "Confusion of classes", text, [block])


def _official_section(scored: ScoredDetections) -> Section:
    """Creates the table of the devkit's metrics beside those of this page."""
    title = "nuScenes' devkit"
    if scored.official is None:
        text = f"The devkit does not compute the metrics of this page: {scored.unofficial}."
        return Section("devkit", title, [text])
    ours, theirs = summarize(scored.summary), summarize(scored.official)
    rows = [
        [Cell(name), Cell(fraction(ours[name], 6)), Cell(fraction(value, 6))]
        for name, value in theirs.items()
    ]
    text = "The devkit computed the metrics of the same predictions as well."
    head = ["metric", "this page", "devkit"]
    return Section("devkit", title, [text], [Table("Metrics of the devkit", head, rows)])


def metrics_section(results: Mapping[str, Any]) -> Section:
    """Creates the table of metrics of an arbitrary evaluator."""
    rows = [[Cell(name), Cell(value)] for name, value in _flat(results)]
    return Section("metrics", "Metrics", [], [Table("Metrics", ["name", "value"], rows)])


def _flat(results: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns names and formatted values of nested metrics; names are joined with slashes."""
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
    """Creates the tables of overrides and of differences from a base config.

    Args:
        overrides: ``key=value`` overrides of the command line.
        changes: differences from the base; None without a base.
        base: path of the base config.
    """
    text, tables = ["The complete config is in config.yaml in the folder of this page."], []
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
        text.append(f"The config has the same values as {base}.")
    return Section("config", "Config", text, tables)


def environment_section() -> Section:
    """Creates the table of software versions and hardware."""
    rows = [[Cell(name), Cell(value)] for name, value in environment().items()]
    table = Table("Versions and machine", ["what", "value"], rows, is_text=True)
    return Section("environment", "Environment", [], [table])


def _good(value: float) -> Cell:
    """Returns the cell of a number whose best value is 1."""
    return Cell(fraction(value), value if math.isfinite(value) else None)


def _bad(value: float) -> Cell:
    """Returns the cell of an error, whose best value is 0; errors of 1 and more have full tint."""
    return Cell(fraction(value), min(1.0, value) if math.isfinite(value) else None, is_bad=True)


def class_title(name: str) -> str:
    """Returns a class name with spaces instead of underscores."""
    return name.replace("_", " ")


def counted(count: int, one: str, many: str) -> str:
    """Returns the number with its noun in singular or plural."""
    return f"{count} {one if count == 1 else many}"


def fraction(value: float, digits: int = 3) -> str:
    """Formats a number; a dash if it is not finite."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING


def percent(part: float, whole: float) -> str:
    """Formats a share in percent; a dash if ``whole`` is 0."""
    return f"{100 * part / whole:.0f} %" if whole else NOTHING
