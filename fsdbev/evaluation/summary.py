"""Formats of the devkit's metrics summary: named numbers for the trainer, a table for the log."""

from __future__ import annotations

import math
from typing import Any

#: Key of a TP error in the devkit's summary -> name of its mean in nuScenes' result tables.
TP_ERROR_NAMES = {
    "trans_err": "mATE",
    "scale_err": "mASE",
    "orient_err": "mAOE",
    "vel_err": "mAVE",
    "attr_err": "mAAE",
}


def summarize(metrics: dict[str, Any]) -> dict[str, float]:
    """Returns mAP, NDS, the five mean TP errors and ``AP_<class>`` from the devkit's summary."""
    summary = {"mAP": float(metrics["mean_ap"]), "NDS": float(metrics["nd_score"])}
    summary |= {name: float(metrics["tp_errors"][key]) for key, name in TP_ERROR_NAMES.items()}
    return summary | {f"AP_{name}": float(ap) for name, ap in metrics["mean_dist_aps"].items()}


def format_table(metrics: dict[str, Any]) -> str:
    """Formats AP and TP errors by class as a text table, with means in the last row and NDS below.

    Args:
        metrics: the devkit's summary.
    """
    # Without the "m" of mATE, which stands for the mean over classes.
    head = ["class", "AP", *(name[1:] for name in TP_ERROR_NAMES.values())]
    rows = [
        [name, ap, *(metrics["label_tp_errors"][name][key] for key in TP_ERROR_NAMES)]
        for name, ap in metrics["mean_dist_aps"].items()
    ]
    mean = ["mean", metrics["mean_ap"], *(metrics["tp_errors"][key] for key in TP_ERROR_NAMES)]
    width = max(len(row[0]) for row in rows)
    rule = "-" * (width + 8 * len(head[1:]))
    lines = [
        _line(head, width),
        rule,
        *(_line(row, width) for row in rows),
        rule,
        _line(mean, width),
        f"NDS {metrics['nd_score']:.4f}",
    ]
    return "\n".join(lines)


def _line(cells: list[Any], width: int) -> str:
    """Formats a row: first cell left-aligned, the others right-aligned."""
    return f"{cells[0]:<{width}}" + "".join(f"{_text(cell):>8}" for cell in cells[1:])


def _text(cell: str | float) -> str:
    """Formats a cell; NaN, an error that the class does not have, is a dash."""
    if isinstance(cell, str):
        return cell
    return "-" if math.isnan(cell) else f"{cell:.4f}"
