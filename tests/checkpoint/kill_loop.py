"""Kills processes while they save and counts lost checkpoints: kill_loop.py FOLDER TIMES SEED.

Each process resumes from the newest checkpoint, saves one after another, keeps two, and reports
those that are saved. It is killed after a random time, at a random byte of a file, or right before
or after a rename. All weights of a checkpoint equal its iteration, so that mixtures are detected.
Prints ``Count`` as one line of JSON.
"""

import json
import logging
import os
import random
import signal
import struct
import sys
import time
from dataclasses import asdict, dataclass
from types import SimpleNamespace

import torch

from fsdbev.checkpoint import TrainingCheckpointer, read_checkpoint
from fsdbev.engine.hooks.checkpointing import CheckpointSaver
from fsdbev.utils.atomic_write import unfinished_paths

WAYS = ("in time", "in a write", "before a rename", "after a rename")
NUMBER = struct.Struct("<q")


@dataclass
class Count:
    """Counts over all kills.

    Attributes:
        killed: killed processes.
        while_saving: processes that left an unfinished file.
        lost: processes whose last reported checkpoint is missing.
        corrupt: processes that left an unreadable checkpoint or a mixture of iterations.
        saved: reported checkpoints.
    """

    killed: int = 0
    while_saving: int = 0
    lost: int = 0
    corrupt: int = 0
    saved: int = 0


def make_model():
    return torch.nn.Sequential(*[torch.nn.Linear(100, 200) for _ in range(8)])


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


class Trap:
    """File object that kills the process after ``bytes_left`` bytes."""

    def __init__(self, file, bytes_left):
        self.file, self.bytes_left = file, bytes_left

    def write(self, content):
        content = bytes(content)
        if len(content) > self.bytes_left:
            self.file.write(content[: self.bytes_left])
            self.file.flush()
            kill_myself()
        self.bytes_left -= len(content)
        return self.file.write(content)

    def flush(self):
        self.file.flush()


def set_trap(way, chance):
    """Makes this process kill itself in one of six saves."""
    replace, save = os.replace, torch.save

    def trapped_save(content, file):
        is_trapped = way == "in a write" and chance.random() < 1 / 6
        save(content, Trap(file, chance.randrange(700_000)) if is_trapped else file)

    def trapped_replace(source, target):
        if way == "before a rename" and chance.random() < 1 / 6:
            kill_myself()
        replace(source, target)
        if way == "after a rename" and chance.random() < 1 / 6:
            kill_myself()

    torch.save, os.replace = trapped_save, trapped_replace


def save_until_killed(folder, start, pipe, way, chance):
    model = make_model()
    hook = CheckpointSaver(TrainingCheckpointer(model, folder), 1, max_to_keep=2)
    hook.trainer = SimpleNamespace(start_iter=start, max_iter=10**9)
    hook.before_train()
    set_trap(way, chance)
    for iteration in range(start, 10**9):
        with torch.no_grad():
            for value in model.parameters():
                value.fill_(iteration)
        hook.step(iteration)
        os.write(pipe, NUMBER.pack(iteration))


def killed_process(folder, start, way, chance):
    """Runs a process until it is killed; returns the iterations that it reported as saved."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            save_until_killed(folder, start, writing, way, chance)
        finally:
            os._exit(1)  # it ended without being killed: an error
    os.close(writing)
    if way == "in time":
        time.sleep(chance.uniform(0.01, 0.15))
        os.kill(process, signal.SIGKILL)
    with open(reading, "rb") as pipe:
        reported = pipe.read()
    status = os.waitpid(process, 0)[1]
    if not os.WIFSIGNALED(status):
        raise RuntimeError("a process ended without being killed")
    return [number for (number,) in NUMBER.iter_unpack(reported[: len(reported) // 8 * 8])]


def is_of_one_iteration(path):
    """Returns whether all weights of a checkpoint are of the iteration in its name.

    Raises:
        ValueError: if it cannot be read.
    """
    content = read_checkpoint(path)
    iteration = content["iteration"]
    same = all(bool((value == iteration).all()) for value in content["model"].values())
    return same and path.endswith(f"model_{iteration:07d}.pth")


def inspect(folder, last_reported, count):
    """Updates the counts after a kill; returns the iteration from which to resume."""
    checkpointer = TrainingCheckpointer(make_model(), folder)
    paths = [path for _, path in checkpointer.numbered()]
    newest = ""
    try:
        intact = all([is_of_one_iteration(path) for path in paths])
        newest = checkpointer.newest_complete()
        # Before the first tag there is no checkpoint file.
        intact &= checkpointer.get_checkpoint_file() in ("", newest)
    except (OSError, ValueError) as error:
        logging.error("corrupt: %s", error)
        intact = False
    iteration = read_checkpoint(newest)["iteration"] if newest and intact else -1
    count.corrupt += not intact
    count.lost += iteration < last_reported
    count.while_saving += bool(unfinished_paths(folder, "*"))
    return max([iteration, last_reported]) + 1


def main(folder, times, seed):
    torch.set_num_threads(1)
    count, start, last_reported = Count(), 0, -1
    for number in range(times):
        way = WAYS[number % len(WAYS)]
        reported = killed_process(folder, start, way, random.Random(f"{seed} {number}"))
        last_reported = max([last_reported, *reported])
        count.killed += 1
        count.saved += len(reported)
        start = inspect(folder, last_reported, count)
    sys.stdout.write(json.dumps(asdict(count)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
