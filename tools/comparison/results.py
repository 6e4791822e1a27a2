"""What the runs of a comparison found, as the content of ``comparison.json``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from .entries import Entry, differences, without_folder
from .runs import Run, read_record

#: What evaluation.json has the metrics under.
_TASK = "nuscenes"
#: Settings that are the same in all configs and say how long what was trained on.
_SETTINGS = {
    "iterations": "train.max_iter",
    "batch": "dataloader.train.total_batch_size",
    "image_size": "dataloader.image_size",
    "data": "dataloader.version",
    "trained_on": "dataloader.train_split",
    "evaluated_on": "dataloader.test_split",
}


@dataclass(frozen=True)
class Result:
    """Of a run that is done.

    Attributes:
        seed: of the run.
        metrics: by name; None: not defined.
        seconds: of training, without start and evaluation; None: too short to tell.
        made_with: versions, cores, threads and processes.
    """

    seed: int
    metrics: dict[str, float | None]
    seconds: float | None
    made_with: dict[str, Any]


def read_result(run: Run) -> Result:
    """Raises ValueError if the evaluation has no mAP or NDS."""
    evaluation = json.loads(run.evaluation.read_text(encoding="utf-8"))
    metrics = evaluation.get(_TASK, {})
    if None in (metrics.get("mAP"), metrics.get("NDS")):
        raise ValueError(
            f"{run.evaluation} has no mAP and NDS under {_TASK!r}: the test split needs annotations"
        )
    seconds = _training_seconds(run.folder / "metrics.json", run.entry.cfg.train.max_iter)
    return Result(run.seed, metrics, seconds, read_record(run)["made_with"])


def summarize(entries: Sequence[Entry], runs: Sequence[Run], command: str) -> dict[str, Any]:
    """All that is known, for JSON. Runs that are not done are named under ``lacking``.

    Raises:
        ValueError: no run is done, or one has no metrics.
    """
    done = [run for run in runs if run.is_done]
    if not done:
        raise ValueError("no run is done, so that there is nothing to report")
    found = {
        entry.name: [read_result(run) for run in done if run.entry is entry] for entry in entries
    }
    return {
        "command": command,
        "seeds": list(dict.fromkeys(run.seed for run in runs)),
        "settings": {name: _setting(entries[0], key) for name, key in _SETTINGS.items()},
        "configs": [_row(entry, found[entry.name]) for entry in entries],
        "differences": differences(entries),
        "lacking": [run.title for run in runs if not run.is_done],
    }


def _row(entry: Entry, results: Sequence[Result]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for result in results for name in result.metrics))
    return {
        "name": entry.name,
        "config": without_folder(entry.path),
        "parameters": entry.parameters,
        "frames": entry.num_frames,
        "metrics": {name: _spread([r.metrics.get(name) for r in results]) for name in names},
        "seconds": _spread([result.seconds for result in results]),
        "runs": [vars(result) for result in results],
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


def _setting(entry: Entry, key: str) -> Any:
    value = OmegaConf.select(entry.cfg, key)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _training_seconds(path: Path, iterations: int) -> float | None:
    """Time of an iteration as the training logged it, of all iterations: also where it was
    interrupted and went on."""
    times = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            values = json.loads(line)
        except ValueError:  # where the training was killed
            continue
        if "time" in values:
            times[values["iteration"]] = values["time"]
    return iterations * statistics.fmean(times.values()) if times else None
