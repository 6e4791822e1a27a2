"""Built-in side of ``detectron2.engine.launch``: one process a GPU, or several on the CPU."""

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
    """Runs ``main_func(*args)`` in every process of the job; called once on every machine.

    Args:
        num_gpus_per_machine: processes on this machine; one runs in the caller's process. They
            talk over NCCL where there are GPUs, over gloo elsewhere.
        dist_url: where rank 0 listens, as ``tcp://host:port``; ``"auto"`` picks a free port, for
            one machine only.
    """
    if num_machines * num_gpus_per_machine <= 1:
        main_func(*args)
        return
    if dist_url == "auto":
        if num_machines != 1:
            raise ValueError(f"dist_url=auto needs one machine, not {num_machines}: name a URL")
        dist_url = _local_url()
    worker_args = (num_gpus_per_machine, num_machines, machine_rank, dist_url, timeout)
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
    has_gpu = torch.cuda.is_available()
    if has_gpu and num_local > torch.cuda.device_count():
        raise ValueError(f"{num_local} processes, but only {torch.cuda.device_count()} GPUs")
    dist.init_process_group(
        "nccl" if has_gpu else "gloo",
        init_method=dist_url,
        world_size=num_machines * num_local,
        rank=machine_rank * num_local + local_rank,
        timeout=timeout,
    )
    comm.create_local_process_group(num_local)
    if has_gpu:
        torch.cuda.set_device(local_rank)
    comm.synchronize()  # the first collective after start-up, before anyone can be late
    main_func(*args)
    if dist.is_initialized():
        dist.destroy_process_group()
