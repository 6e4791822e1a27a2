"""Kills processes while they save, and counts what is lost: kill_loop.py FOLDER TIMES SEED.

Each process goes on from the newest checkpoint, saves one after another, keeps two, and says which
are saved. It is killed after a random time, or at a random byte of a file, or right before or after
a rename. All weights of a checkpoint are the number of its iteration, so that a mixture would show.
Writes one line of JSON: see ``Count``.
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
    """``killed`` processes, of which ``while_saving`` left an unfinished file; ``lost`` did not
    have the last checkpoint that was said to be saved; ``corrupt`` had a checkpoint that cannot be
    read or that is of several iterations; ``saved`` checkpoints in all."""

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
    """A file that takes so many bytes and then kills the process."""

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


def lie_in_wait(way, chance):
    """Lets this process kill itself, in one of six saves."""
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
    lie_in_wait(way, chance)
    for iteration in range(start, 10**9):
        with torch.no_grad():
            for value in model.parameters():
                value.fill_(iteration)
        hook.step(iteration)
        os.write(pipe, NUMBER.pack(iteration))


def killed_process(folder, start, way, chance):
    """Runs a process until it is killed; the iterations that it said are saved."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            save_until_killed(folder, start, writing, way, chance)
        finally:
            os._exit(1)  # it came to an end by itself: an error
    os.close(writing)
    if way == "in time":
        time.sleep(chance.uniform(0.01, 0.15))
        os.kill(process, signal.SIGKILL)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(process, 0)[1]
    if not os.WIFSIGNALED(status):
        raise RuntimeError("a process that saves ended by itself")
    return [number for (number,) in NUMBER.iter_unpack(said[: len(said) // 8 * 8])]


def is_of_one_iteration(path):
    """ValueError if it cannot be read."""
    content = read_checkpoint(path)
    iteration = content["iteration"]
    same = all(bool((value == iteration).all()) for value in content["model"].values())
    return same and path.endswith(f"model_{iteration:07d}.pth")


def look(folder, last_said, count):
    """Counts what there is after a kill; the iteration to go on from."""
    checkpointer = TrainingCheckpointer(make_model(), folder)
    paths = [path for _, path in checkpointer.numbered()]
    newest = ""
    try:
        whole = all([is_of_one_iteration(path) for path in paths])
        newest = checkpointer.newest_complete()
        # before the first tag there is none
        whole &= checkpointer.get_checkpoint_file() in ("", newest)
    except (OSError, ValueError) as error:
        logging.error("corrupt: %s", error)
        whole = False
    iteration = read_checkpoint(newest)["iteration"] if newest and whole else -1
    count.corrupt += not whole
    count.lost += iteration < last_said
    count.while_saving += bool(unfinished_paths(folder, "*"))
    return max([iteration, last_said]) + 1


def main(folder, times, seed):
    torch.set_num_threads(1)
    count, start, last_said = Count(), 0, -1
    for number in range(times):
        way = WAYS[number % len(WAYS)]
        said = killed_process(folder, start, way, random.Random(f"{seed} {number}"))
        last_said = max([last_said, *said])
        count.killed += 1
        count.saved += len(said)
        start = look(folder, last_said, count)
    sys.stdout.write(json.dumps(asdict(count)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
