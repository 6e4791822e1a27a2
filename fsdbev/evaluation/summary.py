"""The devkit's metrics summary as numbers for the trainer and as one table for the log."""

from __future__ import annotations

from typing import Any

#: Key in the devkit's summary -> name in nuScenes' tables.
TP_ERROR_NAMES = {
    "trans_err": "mATE",
    "scale_err": "mASE",
    "orient_err": "mAOE",
    "vel_err": "mAVE",
    "attr_err": "mAAE",
}


def summarize(metrics: dict[str, Any]) -> dict[str, float]:
    """mAP, NDS, the five mean errors and ``AP_<class>`` from the devkit's summary."""
    summary = {"mAP": float(metrics["mean_ap"]), "NDS": float(metrics["nd_score"])}
    summary |= {name: float(metrics["tp_errors"][key]) for key, name in TP_ERROR_NAMES.items()}
    return summary | {f"AP_{name}": float(ap) for name, ap in metrics["mean_dist_aps"].items()}


def format_table(metrics: dict[str, Any]) -> str:
    """Average precision and errors a class, their means in the last row, NDS below."""
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
    """First cell left-aligned, the others right-aligned; NaN (no such error) is a dash."""
    texts = [c if isinstance(c, str) else "-" if c != c else f"{c:.4f}" for c in cells[1:]]
    return f"{cells[0]:<{width}}" + "".join(f"{text:>8}" for text in texts)
