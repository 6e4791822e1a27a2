"""What the runs of a comparison found: as the content of ``comparison.json`` and as Markdown."""

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

#: Task of the metrics in evaluation.json.
_TASK = "nuscenes"
#: Lines of a document around the part that is written here.
BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"


def summarize(entries: Sequence[Entry], runs: Sequence[Run], command: str) -> dict[str, Any]:
    """All that is known, for JSON. Runs that are not done are named under ``lacking``.

    Raises:
        ValueError: no run is done, or one has no metrics.
    """
    done = [run for run in runs if run.is_done]
    if not done:
        raise ValueError("no run is done, so that there is nothing to report")
    return {
        "command": command,
        "seeds": list(dict.fromkeys(run.seed for run in runs)),
        "settings": _settings(entries[0]),
        "configs": [_row(entry, [run for run in done if run.entry is entry]) for entry in entries],
        "differences": differences(entries),
        "lacking": [run.title for run in runs if not run.is_done],
    }


def _settings(entry: Entry) -> dict[str, Any]:
    """What is the same in all configs and says how long the models were trained on which data."""
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
    """Metrics by name (None: not defined) and seconds of training (None: too short to tell).

    Raises:
        ValueError: the evaluation has no mAP or NDS.
    """
    evaluation = json.loads(run.evaluation.read_text(encoding="utf-8"))
    metrics = evaluation.get(_TASK, {})
    if None in (metrics.get("mAP"), metrics.get("NDS")):
        raise ValueError(
            f"{run.evaluation} has no mAP and NDS under {_TASK!r}: the test split needs annotations"
        )
    # all iterations at the time of those that were logged: a resumed training logs some twice
    times = read_metrics(str(run.folder / METRICS_FILE)).get("time", {}).values()
    return {
        "seed": run.seed,
        "metrics": metrics,
        "seconds": run.entry.cfg.train.max_iter * statistics.fmean(times) if times else None,
        "made_with": run.read_record()["made_with"],
    }


def _spread(values: Sequence[float | None]) -> dict[str, float | None] | None:
    """Over the seeds; None if one has no value. The deviation is that of a sample."""
    if not values or None in values:
        return None
    return {
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "lowest": min(values),
        "highest": max(values),
    }


def write_report(content: dict[str, Any], path: Path, *, picture: str) -> None:
    """Title, text and picture, a file for itself."""
    title, shown = "# Comparison", f"![mAP and NDS of each config and seed]({picture})"
    with atomic_write(path) as file:
        file.write(f"{title}\n\n{markdown(content)}\n{shown}\n".encode())


def check_document(path: Path) -> None:
    """Raises ValueError if the file is there without the markers, FileNotFoundError if there is no
    folder for it."""
    if path.is_file():
        _split(path)
    elif not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--doc: there is no folder {path.absolute().parent}")


def write_document(content: dict[str, Any], path: Path) -> None:
    """Puts the text between the markers of a document; makes a new one where there is none."""
    before, after = _split(path) if path.is_file() else ("", "\n")
    with atomic_write(path) as file:
        file.write(f"{before}{BEGIN}\n{markdown(content)}{END}{after}".encode())


def markdown(content: dict[str, Any]) -> str:
    """Table, versions and settings it was made with, and settings that differ."""
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
        widest={metric: _widest(content, metric) for metric in ("mAP", "NDS")},
    )


def _made_with(content: dict[str, Any]) -> list[str]:
    """Versions and threads, each once."""
    runs = [run["made_with"] for row in content["configs"] for run in row["runs"]]
    texts = [
        f"fsdbev {made['fsdbev']}, PyTorch {made['torch']}, {made['cores']} CPU cores (runs at a "
        f"time: {made['processes']}, threads of each: {made['threads']})"
        for made in runs
    ]
    return list(dict.fromkeys(texts))


def _mean(spread: dict | None, digits: int, scale: float = 1.0) -> str:
    return f"{scale * spread['mean']:.{digits}f}" if spread else "-"


def _percent(spread: dict | None) -> str:
    """Mean, and of several seeds also deviation, lowest and highest."""
    if not spread or spread["deviation"] is None:
        return _mean(spread, 1, 100)
    mean, deviation, lowest, highest = (100 * value for value in spread.values())
    return f"{mean:.1f} ± {deviation:.1f} ({lowest:.1f} to {highest:.1f})"


def _paragraph(text: str) -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, width=120, break_long_words=False, break_on_hyphens=False)


def _widest(content: dict[str, Any], metric: str) -> float:
    """Percent between the lowest and the highest seed of the config where they lie farthest
    apart."""
    spreads = [row["metrics"][metric] for row in content["configs"] if row["runs"]]
    return 100 * max(spread["highest"] - spread["lowest"] for spread in spreads)


def _split(path: Path) -> tuple[str, str]:
    """The text before the first marker and behind the second one."""
    try:
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        _, after = rest.split(END)
    except ValueError:
        raise ValueError(
            f"--doc: {path} needs the lines {BEGIN} and {END}, in this order and once each; the "
            "report goes between them"
        ) from None
    return before, after
