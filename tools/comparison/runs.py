"""Runs of a comparison: one training with evaluation per config and seed, each in a process."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from command_line import cpu_count

from fsdbev.config import load_config
from fsdbev.utils.atomic_write import write_json
from fsdbev.utils.collect_env import project_version

from .entries import Entry, changed_keys, settings_of
from .records import add_run, read_record, record_path

TRAIN_NET = Path(__file__).resolve().parents[1] / "train_net.py"
#: Seconds between two checks of the processes, and from SIGTERM until a process is killed.
_POLL, _GRACE = 0.1, 60.0


@dataclass(frozen=True)
class Run:
    """Training and evaluation of one config with one seed.

    Attributes:
        entry: the config.
        seed: value of ``train.seed``.
        folder: value of ``train.output_dir``.
        records: folder of the records of complete runs.
    """

    entry: Entry
    seed: int
    folder: Path
    records: Path

    @property
    def title(self) -> str:
        """Name of config and seed."""
        return f"{self.entry.name}, seed {self.seed}"

    @property
    def start(self) -> Path:
        """File with settings, data and versions of the run, written when it starts or resumes."""
        return self.folder / "run.json"

    @property
    def evaluation(self) -> Path:
        """File with the metrics, written at the end of the training."""
        return self.folder / "evaluation.json"

    @property
    def is_done(self) -> bool:
        """Whether the run is complete and recorded."""
        record = read_record(self.records, self.entry.name)
        return record is not None and str(self.seed) in record["runs"]

    @property
    def console(self) -> Path:
        """File with the output of the process. Unlike ``log.txt``, it also has tracebacks."""
        return self.folder / "console.txt"

    def command(self, overrides: Sequence[str]) -> list[str]:
        """Returns the command that starts or resumes the run."""
        folder = str(self.folder).replace('"', r"\"")
        line = [sys.executable, str(TRAIN_NET), "--config-file", self.entry.path, "--resume"]
        # An evaluation during training would write evaluation.json before the run is complete.
        own = [f"train.seed={self.seed}", "train.eval_period=0", f'train.output_dir="{folder}"']
        return [*line, *overrides, *own]

    def read_start(self) -> dict[str, Any]:
        """Reads ``settings``, ``data`` and ``made_with`` of a run that was started."""
        try:
            return json.loads(self.start.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.start} is damaged ({error}): remove its folder") from error

    def finish(self, overrides: Sequence[str]) -> str:
        """Adds the complete run to the record of its config; returns why that failed, or ""."""
        try:
            made_with = self.read_start()["made_with"]
            add_run(self.records, self.entry, self.seed, self.folder, made_with, overrides)
        except (OSError, ValueError) as error:
            return f"{self.title} cannot be recorded: {error}"
        return ""


def make_runs(
    entries: Sequence[Entry], seeds: Sequence[int], out: Path, records: Path
) -> list[Run]:
    """Returns all runs: first the runs of all configs with the first seed, and so on.

    Raises:
        ValueError: a folder has a run with other settings, or a record is of other settings.
    """
    runs = [
        Run(entry, seed, out / entry.name / f"seed{seed}", records)
        for seed in seeds
        for entry in entries
    ]
    if changed := [text for run in runs if (text := _changes(run))]:
        raise ValueError(
            "existing runs have other settings:\n  "
            + "\n  ".join(changed)
            + "\nuse their settings, another --out or other --records, or remove these"
        )
    return runs


def train(runs: Sequence[Run], overrides: Sequence[str], *, processes: int) -> list[str]:
    """Executes runs, several at a time. Runs that were started before resume.

    All processes have ended when the function returns or raises.

    Args:
        runs: the runs.
        overrides: changes to all configs, ``key=value``.
        processes: number of simultaneous runs.

    Returns:
        A text for each run that failed; all other runs are complete.
    """
    # Once: records that are tracked by git change with each run.
    made_with = _made_with(processes)
    start_time, failures = time.monotonic(), []
    waiting: deque[Run] = deque(runs)
    active: dict[subprocess.Popen, Run] = {}
    try:
        while waiting or active:
            while waiting and len(active) < processes:
                run = waiting.popleft()
                try:
                    active[_start(run, overrides, made_with)] = run
                except (OSError, ValueError) as error:
                    failures.append(f"{run.title}: {error}")
            time.sleep(_POLL)
            for process in [process for process in active if process.poll() is not None]:
                run = active.pop(process)
                failure = _failure(run, process.returncode) or run.finish(overrides)
                failures += [failure] if failure else []
                done = len(runs) - len(waiting) - len(active)
                minutes = (time.monotonic() - start_time) / 60
                verb = "failed" if failure else "is complete"
                print(f"[{done}/{len(runs)}] {run.title} {verb}, {minutes:.1f} min", flush=True)
    finally:
        _end(active)
    return failures


def _made_with(processes: int) -> dict[str, Any]:
    """Returns versions and the division of the cores, for the records of runs."""
    cores = cpu_count()
    return {
        "fsdbev": project_version(),
        "torch": torch.__version__,
        "cores": cores,
        "threads": max(1, cores // processes),
        "processes": processes,
    }


def _changes(run: Run) -> str:
    """Describes how settings or data of the record or of the run in the folder differ; empty if
    they do not."""
    place: Path = record_path(run.records, run.entry.name)
    found = read_record(run.records, run.entry.name)
    if found is None:
        place = run.folder
        if not run.start.is_file():
            outputs = ("evaluation.json", "metrics.json", "last_checkpoint")
            is_other = any((place / name).exists() for name in outputs)
            return f"{place}: not made by this tool (no {run.start.name})" if is_other else ""
        found = run.read_start()
    before = {**found["settings"], **found["data"]}
    now = {**run.entry.settings, **run.entry.data_options}
    changed = changed_keys(before, now)
    texts = [f"{k} was {before.get(k, 'absent')}, is {now.get(k, 'absent')}" for k in changed[:3]]
    texts += [f"and {len(changed) - 3} more"] if len(changed) > 3 else []
    return f"{place}: {'; '.join(texts)}" if changed else ""


def _start(run: Run, overrides: Sequence[str], made_with: dict[str, Any]) -> subprocess.Popen:
    """Starts the process of a run.

    Raises:
        BlockingIOError: another process of this run is active.
        ValueError: the config file has changed since the comparison has read it.
    """
    entry = run.entry
    if changed := changed_keys(entry.settings, settings_of(load_config(entry.path, overrides))):
        raise ValueError(
            f"{entry.path} has changed since the comparison has started ({', '.join(changed)}): "
            "undo the change, or start a new comparison in another folder"
        )
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.console, "ab") as console:
        # The process inherits the lock and keeps it until its end, even if this tool is killed.
        try:
            fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"already running in {run.folder}; wait until its process has ended, or end it"
            ) from error
        start = {"settings": entry.settings, "data": entry.data_options, "made_with": made_with}
        write_json(start, run.start, indent=1)
        process = subprocess.Popen(
            run.command(overrides),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(made_with["threads"])},
            # Ctrl-C then reaches only the comparison, which ends the processes.
            start_new_session=True,
        )
    print(f"{run.title} starts: {run.console}", flush=True)
    return process


def _failure(run: Run, status: int) -> str:
    """Describes the failure of a process that has ended; empty after a success."""
    if status == 0 and run.evaluation.is_file():
        return ""
    how = f"ended with status {status}" if status else "ended before its evaluation"
    text = run.console.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()][-6:]
    return "\n    ".join([f"{run.title} {how}; {run.console} ends with:", *lines])


def _end(processes: Collection[subprocess.Popen]) -> None:
    """Ends the processes with SIGTERM, after which a training saves a checkpoint.

    Kills processes that do not end in time, and all processes after a second Ctrl-C.
    """
    if processes:
        print("waiting for the trainings to save a checkpoint", flush=True)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE
    try:
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        for process in processes:
            process.kill()
    for process in processes:
        process.wait()
