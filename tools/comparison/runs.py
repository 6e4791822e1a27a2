"""The runs of a comparison: one training and evaluation a config and seed, as processes."""

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
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from command_line import cpu_count

import fsdbev
from fsdbev.utils.atomic_write import atomic_write

from .entries import OWN, Entry, changed_keys, flat

TRAIN_NET = Path(__file__).resolve().parents[1] / "train_net.py"
#: Seconds between two checks of the processes, and until processes asked to end are killed.
_POLL, _GRACE = 0.1, 60.0


@dataclass(frozen=True)
class Run:
    """One training with one evaluation.

    Attributes:
        entry: its config.
        seed: its ``train.seed``.
        folder: its ``train.output_dir``.
    """

    entry: Entry
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        return f"{self.entry.name}, seed {self.seed}"

    @property
    def record(self) -> Path:
        """File of the settings and versions that the run was started with."""
        return self.folder / "run.json"

    @property
    def evaluation(self) -> Path:
        """File of its metrics, which is written last."""
        return self.folder / "evaluation.json"

    @property
    def is_done(self) -> bool:
        return self.evaluation.is_file()

    @property
    def console(self) -> Path:
        """Output of its process; ``log.txt`` beside it is the training's own and has no errors."""
        return self.folder / "console.txt"

    @cached_property
    def settings(self) -> dict[str, str]:
        """The resolved config as text by key, but for what the comparison sets."""
        values = flat(self.entry.cfg, resolve=True)
        return {key: value for key, value in values.items() if key not in OWN}

    def command(self, overrides: Sequence[str]) -> list[str]:
        folder = str(self.folder).replace('"', r"\"")
        line = [sys.executable, str(TRAIN_NET), "--config-file", self.entry.path, "--resume"]
        # an evaluation on the way would write evaluation.json before the training is done
        own = [f"train.seed={self.seed}", "train.eval_period=0", f'train.output_dir="{folder}"']
        return [*line, *overrides, *own]

    def read_record(self) -> dict[str, Any]:
        """``settings`` and ``made_with`` of a run that was started."""
        try:
            return json.loads(self.record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.record} is damaged ({error}): remove its folder") from error


def make_runs(entries: Sequence[Entry], seeds: Sequence[int], out: Path) -> list[Run]:
    """All runs, those of a seed after each other.

    Raises:
        ValueError: a folder has a run that was made by other settings.
    """
    runs = [
        Run(entry, seed, out / entry.name / f"seed{seed}") for seed in seeds for entry in entries
    ]
    if changed := [text for run in runs if (text := _changes(run))]:
        raise ValueError(
            "runs were made by other settings than these:\n  "
            + "\n  ".join(changed)
            + "\ngive the settings that they were made by, another --out, or remove these folders"
        )
    return runs


def train(runs: Sequence[Run], overrides: Sequence[str], *, processes: int) -> list[str]:
    """Does the runs, some at a time; one that was started goes on from its last checkpoint.

    All processes have ended when it returns or raises.

    Returns:
        what failed, a text each; the other runs are done.
    """
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
                except BlockingIOError:
                    failures.append(
                        f"{run.title} is under way already, in {run.folder}; wait until its "
                        "process has ended, or end it"
                    )
            time.sleep(_POLL)
            for process in [process for process in active if process.poll() is not None]:
                run = active.pop(process)
                failure = _failure(run, process.returncode)
                failures += [failure] if failure else []
                done = len(runs) - len(waiting) - len(active)
                minutes = (time.monotonic() - start_time) / 60
                verb = "failed" if failure else "is done"
                print(f"[{done}/{len(runs)}] {run.title} {verb}, {minutes:.1f} min", flush=True)
    finally:
        _end(active)
    return failures


def _made_with(processes: int) -> dict[str, Any]:
    cores = cpu_count()
    return {
        "fsdbev": fsdbev.__version__,
        "torch": torch.__version__,
        "cores": cores,
        "threads": max(1, cores // processes),
        "processes": processes,
    }


def _changes(run: Run) -> str:
    """How the settings of the run in the folder differ from this run's; empty if they do not."""
    if not run.record.is_file():
        known = ("evaluation.json", "metrics.json", "last_checkpoint")
        is_other = any((run.folder / name).exists() for name in known)
        return f"{run.folder}: not made by this tool (no {run.record.name})" if is_other else ""
    before, now = run.read_record()["settings"], run.settings
    changed = changed_keys(before, now)
    texts = [f"{k} was {before.get(k, 'absent')}, is {now.get(k, 'absent')}" for k in changed[:3]]
    texts += [f"and {len(changed) - 3} more"] if len(changed) > 3 else []
    return f"{run.folder}: {'; '.join(texts)}" if changed else ""


def _start(run: Run, overrides: Sequence[str], made_with: dict[str, Any]) -> subprocess.Popen:
    """Starts the process of a run. It holds a lock on its console's file for as long as it lives,
    as it may outlive a comparison that was killed.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.console, "ab") as console:
        fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)
        record = {"settings": run.settings, "made_with": made_with}
        with atomic_write(run.record) as file:
            file.write(json.dumps(record, indent=1).encode() + b"\n")
        process = subprocess.Popen(
            run.command(overrides),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(made_with["threads"])},
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
        )
    print(f"{run.title} begins: {run.console}", flush=True)
    return process


def _failure(run: Run, status: int) -> str:
    """What went wrong in a process that has ended; empty if nothing."""
    if status == 0 and run.is_done:
        return ""
    how = f"ended with status {status}" if status else "ended before its evaluation"
    text = run.console.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()][-6:]
    return "\n    ".join([f"{run.title} {how}; {run.console} ends with:", *lines])


def _end(processes: Collection[subprocess.Popen]) -> None:
    """Asks the processes to end, by which a training saves a checkpoint; kills those that do not
    in time, and all at a second Ctrl-C."""
    if processes:
        print("ending; trainings save a checkpoint first", flush=True)
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
