"""Built-in side of ``detectron2.utils.comm``: what processes of one job tell each other.

Every function also works without ``torch.distributed``, as a job of one process.
"""

from __future__ import annotations

import atexit
import functools
import secrets
from typing import Any

import torch
import torch.distributed as dist

_local_group: dist.ProcessGroup | None = None


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes of the job."""
    return dist.get_world_size() if _is_distributed() else 1


def get_rank() -> int:
    """Index of this process in the job."""
    return dist.get_rank() if _is_distributed() else 0


def is_main_process() -> bool:
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Makes the groups of the processes that share a machine; every process calls it once, right
    after ``torch.distributed`` is initialised."""
    global _local_group
    if _local_group is not None:
        raise ValueError("the local process group exists already")
    world_size = get_world_size()
    if world_size % num_workers_per_machine:
        raise ValueError(
            f"{world_size} processes cannot be {num_workers_per_machine} on every machine"
        )
    machine = get_rank() // num_workers_per_machine
    for index in range(world_size // num_workers_per_machine):
        first = index * num_workers_per_machine
        group = dist.new_group(list(range(first, first + num_workers_per_machine)))
        if index == machine:
            _local_group = group
    atexit.register(_release_groups)


def _release_groups() -> None:
    """A group that was destroyed lives on, with its threads, as long as something refers to it; a
    thread of gloo that frees a tensor while the interpreter exits aborts the process."""
    global _local_group
    _local_group = None
    _gloo_group.cache_clear()


def get_local_process_group() -> dist.ProcessGroup:
    """The group of this machine's processes."""
    if _local_group is None:
        raise ValueError("call create_local_process_group first; engine.launch does so")
    return _local_group


def get_local_rank() -> int:
    """Index of this process among those of its machine."""
    return dist.get_rank(get_local_process_group()) if _is_distributed() else 0


def get_local_size() -> int:
    """Number of processes on this machine."""
    return dist.get_world_size(get_local_process_group()) if _is_distributed() else 1


def synchronize() -> None:
    """Returns when every process has called it."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == "nccl":  # else the barrier guesses the device
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


@functools.cache
def _gloo_group() -> dist.ProcessGroup:
    """All processes, on a backend that carries Python objects through host memory."""
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else dist.group.WORLD


def all_gather(data: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Every process's picklable ``data``, in order of rank."""
    if get_world_size() == 1:
        return [data]
    group = group or _gloo_group()
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, data, group=group)
    return gathered


def gather(data: Any, dst: int = 0, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Every process's picklable ``data`` in order of rank on rank ``dst``, [] on the others."""
    if get_world_size() == 1:
        return [data]
    group = group or _gloo_group()
    is_destination = dist.get_rank(group) == dst
    gathered: list[Any] | None = [None] * dist.get_world_size(group) if is_destination else None
    dist.gather_object(data, gathered, dst=dst, group=group)
    return gathered or []


def shared_random_seed() -> int:
    """A random number that is the same in every process; all of them must call it."""
    return all_gather(secrets.randbelow(2**31))[0]
