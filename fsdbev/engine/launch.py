"""Starting the processes of a job: spawned here, or by torchrun."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from fsdbev.d2.engine import launch as spawn
from fsdbev.d2.utils import comm
from fsdbev.utils.processes import PREEMPTED, RANK_LOST, STOP_SIGNALS

from .distributed import DistributedTimeouts, supervised

logger = logging.getLogger(__name__)

Main = Callable[[argparse.Namespace], Any]


def launch(
    main: Main, args: argparse.Namespace, timeouts: DistributedTimeouts | None = None
) -> None:
    """Runs ``main(args)`` in every process of the job.

    Under torchrun this process is one of them, by ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and
    ``LOCAL_WORLD_SIZE``. Else ``args.num_gpus`` processes are spawned on this machine (one or none:
    it runs right here), as one of ``args.num_machines``. They use NCCL with GPUs, gloo without.

    Args:
        timeouts: how long processes wait for each other.

    Raises:
        SystemExit: a spawned process failed; with a status of ``stopping`` where that says how.
    """
    timeouts = timeouts or DistributedTimeouts()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _join_torchrun(timeouts)
        record(_call)(main, args, timeouts)  # torchrun's summary then has the error
        return
    if args.num_gpus * args.num_machines <= 1:
        _call(main, args, timeouts)
        return
    with _signals_passed_on() as passed_on:
        try:
            spawn(
                _call,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(main, args, timeouts),
                timeout=timeouts.collective,
            )
        except (ProcessExitedException, ProcessRaisedException) as error:
            failed = error
        else:
            return
    _end_as(failed, args.machine_rank * args.num_gpus + failed.error_index, passed_on)


def _join_torchrun(timeouts: DistributedTimeouts) -> None:
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if has_gpu else "gloo"
    dist.init_process_group(backend, init_method="env://", timeout=timeouts.collective)
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))


def _call(main: Main, args: argparse.Namespace, timeouts: DistributedTimeouts) -> None:
    """Runs one process of the job."""
    if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // comm.get_local_size()))
    with supervised(timeouts):
        main(args)
    if dist.is_initialized():
        dist.destroy_process_group()


def _end_as(
    error: ProcessExitedException | ProcessRaisedException, rank: int, passed_on: set[int]
) -> None:
    """Says how the first spawned process that failed did so, and ends this one alike.

    Args:
        rank: of that process.
        passed_on: signals that all of them were sent from here.
    """
    process = f"rank {rank} (pid {error.error_pid})"
    if isinstance(error, ProcessRaisedException):
        logger.error("%s\nThe job ends: %s failed with the error above", error.msg, process)
        raise SystemExit(1)
    code = error.exit_code
    if -code in passed_on:  # before anything could be saved: as if it had not been caught
        signal.signal(-code, signal.SIG_DFL)
        signal.raise_signal(-code)
    if code == PREEMPTED:
        logger.warning("The job was asked to stop, and saved a checkpoint: --resume goes on")
    elif code == RANK_LOST:
        logger.error("The job ends: %s lost another process, see its log", process)
    elif code < 0:
        name = signal.Signals(-code).name
        logger.error("The job ends: %s was killed by %s; --resume goes on", process, name)
    else:
        logger.error("The job ends: %s ended with status %d", process, code)
    raise SystemExit(code if code > 0 else RANK_LOST)


@contextmanager
def _signals_passed_on() -> Iterator[set[int]]:
    """Passes SIGTERM and SIGUSR1 on to the spawned processes, which know how to stop. Gives a set,
    to which signals that come are added."""
    came: set[int] = set()

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.add(number)
        children = multiprocessing.active_children()
        for child in children:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(child.pid, number)
        if not children:  # nobody to pass it on to: as if it had not been caught
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in STOP_SIGNALS}
    try:
        yield came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
