"""The runs of a comparison: one training and evaluation a config and seed, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import torch
from command_line import cpu_count

import fsdbev
from fsdbev.engine.overrides import apply_overrides
from fsdbev.utils.atomic_write import atomic_write

from .entries import Entry, flat

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

TRAIN_NET = Path(__file__).resolve().parents[1] / "train_net.py"
#: Seconds between two looks at the processes, and until those that are asked to end are killed.
_POLL, _GRACE = 0.1, 60.0
_LAST_LINES = 6


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
        """What the run was begun with: settings, versions."""
        return self.folder / "run.json"

    @property
    def evaluation(self) -> Path:
        """Its metrics, which are written last."""
        return self.folder / "evaluation.json"

    @property
    def is_done(self) -> bool:
        return self.evaluation.is_file()

    @property
    def console(self) -> Path:
        """What its process says; ``log.txt`` beside it is the training's own and has no errors."""
        return self.folder / "console.txt"

    @cached_property
    def settings(self) -> dict[str, str]:
        """The resolved config as text by key, wherever the folder is."""
        return flat(apply_overrides(self.entry.cfg, _own(self.seed, "")), resolve=True)

    def command(self, overrides: Sequence[str]) -> list[str]:
        folder = str(self.folder).replace('"', r"\"")
        line = [sys.executable, str(TRAIN_NET), "--config-file", self.entry.path, "--resume"]
        return [*line, *overrides, *_own(self.seed, folder)]


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
    """Does the runs, some at a time; one that was begun goes on from its last checkpoint.

    Returns:
        what failed, a text each; the other runs are done.

    Raises:
        ValueError: one of them is under way already, as an earlier call was killed.
        KeyboardInterrupt: a signal asked to stop. All processes have ended.
    """
    made_with = _made_with(processes)
    begun, failures = time.monotonic(), []
    active: dict[subprocess.Popen, Run] = {}
    with ExitStack() as stack:
        waiting = deque([(run, stack.enter_context(_open_console(run))) for run in runs])
        stop = stack.enter_context(_stop_signals())
        stack.callback(_end, active, stop)
        while waiting or active:
            while waiting and len(active) < processes and not stop.is_asked:
                run, console = waiting.popleft()
                active[_start(run, console, overrides, made_with)] = run
            if stop.wait(_POLL):
                raise KeyboardInterrupt
            for process in [process for process in active if process.poll() is not None]:
                run = active.pop(process)
                if failure := _failure(run, process.returncode):
                    failures.append(failure)
                done = len(runs) - len(waiting) - len(active)
                minutes = (time.monotonic() - begun) / 60
                verb = "failed" if failure else "is done"
                print(f"[{done}/{len(runs)}] {run.title} {verb}, {minutes:.1f} min", flush=True)
    return failures


def _own(seed: int, folder: str) -> list[str]:
    # evaluation.json is there only when all is done if nothing is evaluated on the way
    return [f"train.seed={seed}", "train.eval_period=0", f'train.output_dir="{folder}"']


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
    """What the run in the folder was made by and this one is not; nothing if there is no other."""
    if not run.record.is_file():
        known = ("evaluation.json", "metrics.json", "last_checkpoint")
        is_other = any((run.folder / name).exists() for name in known)
        return f"{run.folder}: not made by this tool (no {run.record.name})" if is_other else ""
    before, now = read_record(run)["settings"], run.settings
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    texts = [f"{k} was {before.get(k, 'absent')}, is {now.get(k, 'absent')}" for k in changed[:3]]
    if len(changed) > 3:
        texts.append(f"and {len(changed) - 3} more")
    return f"{run.folder}: {'; '.join(texts)}" if changed else ""


def read_record(run: Run) -> dict[str, Any]:
    """``settings`` and ``made_with`` of a run that was begun."""
    try:
        return json.loads(run.record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{run.record} is damaged ({error}); remove {run.folder}") from error


@contextmanager
def _open_console(run: Run) -> Iterator[IO[bytes]]:
    """The console's file, locked for as long as this process or one that it is passed to lives:
    children of a call that was killed may still be at work."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.console, "ab") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{run.title} is under way already, in {run.folder}; wait until its process has "
                "ended, or end it"
            ) from error
        except OSError as error:  # a file system without locks
            print(f"{run.folder} cannot be locked ({error}): let no other comparison use it")
        yield file


def _start(
    run: Run, console: IO[bytes], overrides: Sequence[str], made_with: dict[str, Any]
) -> subprocess.Popen:
    record = {"settings": run.settings, "made_with": made_with}
    with atomic_write(run.record) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")
    process = subprocess.Popen(
        run.command(overrides),
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": str(made_with["threads"])},
        start_new_session=True,  # Ctrl-C reaches this process alone, which asks the others to end
    )
    console.close()
    print(f"{run.title} begins: {run.console}", flush=True)
    return process


def _failure(run: Run, status: int) -> str:
    if status == 0 and run.is_done:
        return ""
    how = f"ended with status {status}" if status else "ended before its evaluation"
    text = run.console.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    return "\n    ".join([f"{run.title} {how}; {run.console} ends with:", *lines])


class _Stop:
    """Whether a signal asked to stop. An Event's lock may be held by what the signal interrupts,
    and its handler would wait for it forever."""

    def __init__(self) -> None:
        self.is_asked = False

    def ask(self, *_: Any) -> None:
        """Handler of a signal."""
        self.is_asked = True

    def wait(self, seconds: float) -> bool:
        """Sleeps; then whether to stop."""
        time.sleep(seconds)
        return self.is_asked


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """What is told by Ctrl-C, SIGTERM, and a terminal that closes."""
    stop = _Stop()
    numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    previous = {number: signal.getsignal(number) for number in numbers}
    for number, handler in previous.items():
        if handler != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop.ask)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end(processes: dict[subprocess.Popen, Run], stop: _Stop) -> None:
    """Asks the processes to end, by which a training saves a checkpoint; kills what does not, or
    all at a second signal."""
    if not processes:
        return
    print("ending; trainings save a checkpoint first", flush=True)
    stop.is_asked = False
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE
    while any(process.poll() is None for process in processes):
        if stop.wait(_POLL) or time.monotonic() > deadline:
            for process in processes:
                process.kill()
            break
    for process in processes:
        process.wait()
