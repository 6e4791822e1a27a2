"""Records of complete runs: one JSON file per config, in a folder that can be tracked.

Any clone of the repository continues a comparison from its records, and reports it from them.
"""

from __future__ import annotations

import fcntl
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsdbev.engine.hooks.curves import METRICS_FILE, read_metrics
from fsdbev.utils.atomic_write import write_json

from .bootstrap import evaluate_draws
from .entries import Entry, without_folder

#: Key of the metrics in evaluation.json, and the metrics that a record keeps.
_TASK, _KEPT = "nuscenes", ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


def record_path(folder: Path, name: str) -> Path:
    """Returns the path of the record of a config."""
    return folder / f"{name}.json"


def read_record(folder: Path, name: str) -> dict[str, Any] | None:
    """Reads the record of a config; None if no run of it is complete.

    Raises:
        ValueError: the file is damaged.
    """
    path = record_path(folder, name)
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): restore or remove it") from error


def add_run(
    folder: Path,
    entry: Entry,
    seed: int,
    run_folder: Path,
    made_with: dict[str, Any],
    overrides: Sequence[str],
) -> None:
    """Adds a complete run to the record of its config.

    Args:
        folder: folder of the records.
        entry: the config.
        seed: seed of the run.
        run_folder: output folder of the run, with metrics and predictions.
        made_with: versions and cores, kept with the run.
        overrides: changes to all configs, ``key=value``.

    Raises:
        ValueError: the evaluation has no mAP or NDS.
    """
    evaluation = run_folder / "evaluation.json"
    metrics = json.loads(evaluation.read_text(encoding="utf-8")).get(_TASK, {})
    if None in (metrics.get("mAP"), metrics.get("NDS")):
        raise ValueError(
            f"{evaluation} has no mAP and NDS under {_TASK!r}: the test split needs annotations"
        )
    # metrics.json has one time per logging period, the median of recent iterations: the mean of all
    # stands for all iterations.
    times = read_metrics(str(run_folder / METRICS_FILE)).get("time", {}).values()
    run = {
        "metrics": {
            name: value
            for name, value in metrics.items()
            if name in _KEPT or name.startswith("AP_")
        },
        "draws": {
            # One line of text: a list would take a line for each of its hundreds of values.
            name: " ".join(f"{value:.4f}" for value in values)
            for name, values in evaluate_draws(entry, run_folder / "results_nusc.json").items()
        },
        "seconds": entry.cfg.train.max_iter * statistics.fmean(times) if times else None,
        "made_with": made_with,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        record = read_record(folder, entry.name) or {
            "name": entry.name,
            "config": without_folder(entry.path),
            "overrides": list(map(without_folder, overrides)),
            "parameters": entry.parameters,
            "data": entry.data_options,
            # Not the places of the data on this machine.
            "same": {k: v for k, v in entry.same.items() if not k.endswith(("root", "index_dir"))},
            "settings": entry.settings,
            "runs": {},
        }
        runs = {**record["runs"], str(seed): run}
        record["runs"] = dict(sorted(runs.items(), key=lambda item: int(item[0])))
        write_json(record, record_path(folder, entry.name), indent=1)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Waits for and holds the lock of a folder, so that two comparisons do not lose each other's
    runs."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
