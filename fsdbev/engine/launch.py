"""Starting the processes of a job: spawned here, or by torchrun."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from fsdbev.d2.engine import launch as spawn
from fsdbev.d2.utils import comm

Main = Callable[[argparse.Namespace], Any]


def launch(main: Main, args: argparse.Namespace) -> None:
    """Runs ``main(args)`` in every process of the job.

    Under torchrun this process is one of them, by ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and
    ``LOCAL_WORLD_SIZE``. Else ``args.num_gpus`` processes are spawned on this machine (one or none:
    it runs right here), as one of ``args.num_machines``. They use NCCL with GPUs, gloo without.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _join_torchrun()
        _call(main, args)
        return
    several = args.num_gpus * args.num_machines > 1
    with _signals_passed_on() if several else nullcontext():
        spawn(
            _call,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, args),
        )


def _join_torchrun() -> None:
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if has_gpu else "gloo", init_method="env://")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))


def _call(main: Main, args: argparse.Namespace) -> None:
    if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // comm.get_local_size()))
    main(args)
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _signals_passed_on() -> Iterator[None]:
    """Passes SIGTERM and SIGUSR1 on to the spawned processes, which know how to stop."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        children = multiprocessing.active_children()
        for child in children:
            os.kill(child.pid, number)
        if not children:  # nobody to pass it on to: as if it had not been caught
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    numbers = {signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)}
    previous = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
