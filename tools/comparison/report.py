"""Report of a comparison: results of all runs as JSON content and as Markdown."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from fsdbev.engine.hooks.curves import METRICS_FILE, read_metrics
from fsdbev.utils.atomic_write import atomic_write

from .entries import Entry, differences, without_folder
from .runs import Run

#: Key of the metrics in evaluation.json.
_TASK = "nuscenes"
#: Lines around the generated part of a document.
BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"


def summarize(entries: Sequence[Entry], runs: Sequence[Run], command: str) -> dict[str, Any]:
    """Collects the results of all runs as content for JSON.

    Args:
        entries: the configs.
        runs: their runs; incomplete runs are listed under ``lacking``.
        command: command to show in the report.

    Raises:
        ValueError: no run is complete, or a complete run has no metrics.
    """
    done = [run for run in runs if run.is_done]
    if not done:
        raise ValueError("no run is complete: there is nothing to report")
    return {
        "command": command,
        "seeds": list(dict.fromkeys(run.seed for run in runs)),
        "settings": _settings(entries[0]),
        "configs": [_row(entry, [run for run in done if run.entry is entry]) for entry in entries],
        "differences": differences(entries),
        "lacking": [run.title for run in runs if not run.is_done],
    }


def _settings(entry: Entry) -> dict[str, Any]:
    """Returns schedule and data, which are equal in all configs."""
    data = entry.cfg.dataloader
    return {
        "iterations": entry.cfg.train.max_iter,
        "batch": data.train.total_batch_size,
        "image_size": list(data.image_size),
        "data": data.version,
        "trained_on": data.train_split,
        "evaluated_on": data.test_split,
    }


def _row(entry: Entry, runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the results of one config."""
    results = [_result(run) for run in runs]
    names = list(dict.fromkeys(name for result in results for name in result["metrics"]))
    spreads = {name: _spread([r["metrics"].get(name) for r in results]) for name in names}
    return {
        "name": entry.name,
        "config": without_folder(entry.path),
        "parameters": entry.parameters,
        "frames": entry.num_frames,
        "metrics": spreads,
        "seconds": _spread([result["seconds"] for result in results]),
        "runs": results,
    }


def _result(run: Run) -> dict[str, Any]:
    """Reads the metrics and the training time of one run.

    Undefined metrics are None, as is the time of a training without logged iterations.

    Raises:
        ValueError: the evaluation has no mAP or NDS.
    """
    evaluation = json.loads(run.evaluation.read_text(encoding="utf-8"))
    metrics = evaluation.get(_TASK, {})
    if None in (metrics.get("mAP"), metrics.get("NDS")):
        raise ValueError(
            f"{run.evaluation} has no mAP and NDS under {_TASK!r}: the test split needs annotations"
        )
    # The mean time of logged iterations, multiplied by the number of iterations: a sum would count
    # iterations that a resumed training logged twice.
    times = read_metrics(str(run.folder / METRICS_FILE)).get("time", {}).values()
    return {
        "seed": run.seed,
        "metrics": metrics,
        "seconds": run.entry.cfg.train.max_iter * statistics.fmean(times) if times else None,
        "made_with": run.read_record()["made_with"],
    }


def _spread(values: Sequence[float | None]) -> dict[str, float | None] | None:
    """Computes mean, sample standard deviation and range of values; None if a value is missing."""
    if not values or None in values:
        return None
    return {
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "lowest": min(values),
        "highest": max(values),
    }


def write_report(content: dict[str, Any], path: Path, *, picture: str) -> None:
    """Writes a Markdown file with title, text and picture."""
    title, shown = "# Comparison", f"![mAP and NDS of each config and seed]({picture})"
    with atomic_write(path) as file:
        file.write(f"{title}\n\n{markdown(content)}\n{shown}\n".encode())


def check_document(path: Path) -> None:
    """Checks that a report can be written to a document.

    Raises:
        ValueError: the document exists and has no markers.
        FileNotFoundError: the folder of the document does not exist.
    """
    if path.is_file():
        _split(path)
    elif not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--doc: no folder {path.absolute().parent}; create it first")


def write_document(content: dict[str, Any], path: Path) -> None:
    """Writes the text between the markers of a document, or to a new document."""
    before, after = _split(path) if path.is_file() else ("", "\n")
    with atomic_write(path) as file:
        file.write(f"{before}{BEGIN}\n{markdown(content)}{END}{after}".encode())


def markdown(content: dict[str, Any]) -> str:
    """Formats the report: table, settings, versions, and settings that differ between configs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=_percent, mean=_mean, paragraph=_paragraph)
    return environment.get_template("report.md.jinja").render(
        content,
        made_with="; and ".join(_made_with(content)),
        widest={metric: _largest_range(content, metric) for metric in ("mAP", "NDS")},
    )


def _made_with(content: dict[str, Any]) -> list[str]:
    """Returns the different combinations of versions and threads of the runs."""
    runs = [run["made_with"] for row in content["configs"] for run in row["runs"]]
    texts = [
        f"fsdbev {made['fsdbev']}, PyTorch {made['torch']}, {made['cores']} CPU cores (runs at a "
        f"time: {made['processes']}, threads of each: {made['threads']})"
        for made in runs
    ]
    return list(dict.fromkeys(texts))


def _mean(spread: dict | None, digits: int, scale: float = 1.0) -> str:
    """Formats the scaled mean."""
    return f"{scale * spread['mean']:.{digits}f}" if spread else "-"


def _percent(spread: dict | None) -> str:
    """Formats the mean in percent, for several seeds with deviation and range."""
    if not spread or spread["deviation"] is None:
        return _mean(spread, 1, 100)
    mean, deviation, lowest, highest = (100 * value for value in spread.values())
    return f"{mean:.1f} ± {deviation:.1f} ({lowest:.1f} to {highest:.1f})"


def _paragraph(text: str) -> str:
    """Wraps text at 120 columns without breaking words."""
    words = " ".join(text.split())
    return textwrap.fill(words, width=120, break_long_words=False, break_on_hyphens=False)


def _largest_range(content: dict[str, Any], metric: str) -> float:
    """Returns the largest difference between two seeds of one config, in percent."""
    spreads = [row["metrics"][metric] for row in content["configs"] if row["runs"]]
    return 100 * max(spread["highest"] - spread["lowest"] for spread in spreads)


def _split(path: Path) -> tuple[str, str]:
    """Returns the text before the first marker and after the second one."""
    try:
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        _, after = rest.split(END)
    except ValueError:
        raise ValueError(
            f"--doc: {path} needs the lines {BEGIN} and {END}, in this order and once each; the "
            "report is written between them"
        ) from None
    return before, after
