"""Start of a job's processes: spawned on this machine, or joined under torchrun."""

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

    Under torchrun this process joins the job, with ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and
    ``LOCAL_WORLD_SIZE`` of the environment. Otherwise ``args.num_gpus`` processes are spawned on
    this machine, which is one of ``args.num_machines``; a job of one process runs in this process.
    Processes communicate over NCCL with GPUs and over gloo without.

    Args:
        main: function of the command line arguments.
        args: command line arguments, with those of Detectron2's ``default_argument_parser``.
        timeouts: time limits; default ``DistributedTimeouts()``.

    Raises:
        SystemExit: a spawned process failed. The status is that of the process if it exited by
            itself, else 1 for an exception and ``RANK_LOST`` for a signal.
    """
    timeouts = timeouts or DistributedTimeouts()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _join_torchrun(timeouts)
        record(_run_process)(main, args, timeouts)  # for the traceback in torchrun's summary
        return
    if args.num_gpus * args.num_machines <= 1:
        _run_process(main, args, timeouts)
        return
    with _forwarded_signals() as forwarded:
        try:
            spawn(
                _run_process,
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
    _exit_like(failed, args.machine_rank * args.num_gpus + failed.error_index, forwarded)


def _join_torchrun(timeouts: DistributedTimeouts) -> None:
    """Joins the process group of the job that torchrun started."""
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if has_gpu else "gloo"
    dist.init_process_group(backend, init_method="env://", timeout=timeouts.collective)
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))


def _run_process(main: Main, args: argparse.Namespace, timeouts: DistributedTimeouts) -> None:
    """Runs one process of the job."""
    # PyTorch sizes its thread pool for the machine, which the local processes share.
    if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // comm.get_local_size()))
    with supervised(timeouts):
        main(args)
    if dist.is_initialized():
        dist.destroy_process_group()


def _exit_like(
    error: ProcessExitedException | ProcessRaisedException, rank: int, forwarded: set[int]
) -> None:
    """Logs how a spawned process failed and exits this process in the same way.

    Args:
        error: failure of the first process that failed.
        rank: its rank.
        forwarded: signals that this process forwarded to the spawned ones.
    """
    process = f"rank {rank} (pid {error.error_pid})"
    if isinstance(error, ProcessRaisedException):
        logger.error("%s\nThe job ends: %s failed with the error above", error.msg, process)
        raise SystemExit(1)
    code = error.exit_code
    # A process without a training's handler, such as one that starts up, dies from a forwarded
    # signal. Raising it again under the default action gives this process the same status.
    if -code in forwarded:
        signal.signal(-code, signal.SIG_DFL)
        signal.raise_signal(-code)
    if code == PREEMPTED:
        logger.warning("The job received a signal and saved a checkpoint; continue with --resume")
    elif code == RANK_LOST:
        logger.error("The job ends: %s lost another process; see its log", process)
    elif code < 0:
        name = signal.Signals(-code).name
        logger.error("The job ends: %s was killed by %s; continue with --resume", process, name)
    else:
        logger.error("The job ends: %s exited with status %d", process, code)
    raise SystemExit(code if code > 0 else RANK_LOST)


@contextmanager
def _forwarded_signals() -> Iterator[set[int]]:
    """Forwards SIGTERM and SIGUSR1 to the spawned processes, which handle them.

    Yields:
        a set to which the forwarded signals are added.
    """
    received: set[int] = set()

    def forward(number: int, frame: FrameType | None) -> None:
        received.add(number)
        children = multiprocessing.active_children()
        for child in children:
            with suppress(ProcessLookupError):  # the process has just exited
                os.kill(child.pid, number)
        if not children:  # no process to forward the signal to: apply its default action here
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    previous = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
