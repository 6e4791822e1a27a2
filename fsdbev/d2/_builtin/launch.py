"""Built-in ``detectron2.engine.launch``: one process per GPU, or several processes on the CPU."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from . import comm

DEFAULT_TIMEOUT = timedelta(minutes=30)


def _local_url() -> str:
    """Returns a URL of this machine with a free port."""
    # The system chooses the port. As in Detectron2, another process may take it before rank 0 does.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Runs ``main_func(*args)`` in every process of a job. Call it once on every machine.

    Args:
        main_func: function to run; picklable if there is more than one process.
        num_gpus_per_machine: processes per machine. A job of one process runs in the caller's
            process. Several communicate over NCCL if there are GPUs, otherwise over gloo.
        num_machines: number of machines of the job.
        machine_rank: index of this machine.
        dist_url: address of rank 0, ``tcp://host:port``; ``"auto"`` selects a free port on this
            machine and works for one machine only.
        args: arguments of ``main_func``.
        timeout: longest time that a collective waits for all processes.

    Raises:
        ValueError: if ``dist_url`` is "auto" in a job of several machines, or if there are fewer
            GPUs than processes.
    """
    if num_machines * num_gpus_per_machine <= 1:
        main_func(*args)
        return
    if dist_url == "auto":
        if num_machines != 1:
            raise ValueError(
                f"dist_url=auto needs one machine, not {num_machines}: set it to tcp://host:port"
            )
        dist_url = _local_url()
    worker_args = (num_gpus_per_machine, num_machines, machine_rank, dist_url, timeout)
    # Spawned: a forked process cannot use CUDA if its parent has initialised it.
    mp.spawn(_worker, nprocs=num_gpus_per_machine, args=(*worker_args, main_func, args))


def _worker(
    local_rank: int,
    num_local: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    timeout: timedelta,
    main_func: Callable[..., Any],
    args: tuple,
) -> None:
    """Initializes the process group and runs ``main_func``; the body of a spawned process."""
    has_gpu = torch.cuda.is_available()
    if has_gpu and num_local > torch.cuda.device_count():
        raise ValueError(
            f"{num_local} processes need as many GPUs, but there are {torch.cuda.device_count()}"
        )
    dist.init_process_group(
        "nccl" if has_gpu else "gloo",
        init_method=dist_url,
        world_size=num_machines * num_local,
        rank=machine_rank * num_local + local_rank,
        timeout=timeout,
    )
    comm.create_local_process_group(num_local)
    # Before the barrier, which NCCL runs on the current device.
    if has_gpu:
        torch.cuda.set_device(local_rank)
    # As in Detectron2: processes start at different times, and without this barrier the first
    # collective of main_func could time out.
    comm.synchronize()
    main_func(*args)
    if dist.is_initialized():
        dist.destroy_process_group()
