"""Built-in ``detectron2.utils.comm``: communication between the processes of a job.

Without an initialized ``torch.distributed`` every function works as in a job of one process.
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
    """Returns the number of processes of the job."""
    return dist.get_world_size() if _is_distributed() else 1


def get_rank() -> int:
    """Returns the index of this process in the job."""
    return dist.get_rank() if _is_distributed() else 0


def is_main_process() -> bool:
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Creates the process group of each machine.

    Every process calls it once, after ``torch.distributed`` is initialized.

    Raises:
        ValueError: if it was called before, or if the world size is no multiple of
            ``num_workers_per_machine``.
    """
    global _local_group
    if _local_group is not None:
        raise ValueError("the local process group exists already")
    world_size = get_world_size()
    if world_size % num_workers_per_machine:
        raise ValueError(
            f"{world_size} processes cannot be {num_workers_per_machine} on every machine"
        )
    machine_rank = get_rank() // num_workers_per_machine
    # new_group is a collective: every process must create the groups of all machines.
    for machine in range(world_size // num_workers_per_machine):
        first = machine * num_workers_per_machine
        group = dist.new_group(list(range(first, first + num_workers_per_machine)))
        if machine == machine_rank:
            _local_group = group
    atexit.register(_release_groups)


def _release_groups() -> None:
    """Drops the references to process groups when the interpreter exits."""
    # A destroyed group keeps its threads as long as it is referenced, and a gloo thread that frees
    # a tensor while the interpreter exits aborts the process.
    global _local_group
    _local_group = None
    _gloo_group.cache_clear()


def get_local_process_group() -> dist.ProcessGroup:
    """Returns the group of the processes on this machine."""
    if _local_group is None:
        raise ValueError("call create_local_process_group first; engine.launch does so")
    return _local_group


def get_local_rank() -> int:
    """Returns the index of this process among those on its machine."""
    return dist.get_rank(get_local_process_group()) if _is_distributed() else 0


def get_local_size() -> int:
    """Returns the number of processes on this machine."""
    return dist.get_world_size(get_local_process_group()) if _is_distributed() else 1


def synchronize() -> None:
    """Waits until every process has called it."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == "nccl":
        # Without device_ids the barrier guesses the device and PyTorch warns.
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


# Cached: new_group is a collective and sets up new connections at every call.
@functools.cache
def _gloo_group() -> dist.ProcessGroup:
    """Returns a group of all processes that transfers Python objects through host memory."""
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else dist.group.WORLD


def all_gather(data: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Returns the picklable ``data`` of every process, ordered by rank."""
    if get_world_size() == 1:
        return [data]
    group = group or _gloo_group()
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, data, group=group)
    return gathered


def gather(data: Any, dst: int = 0, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Returns the picklable ``data`` of every process, ordered by rank, on ``dst``; else []."""
    if get_world_size() == 1:
        return [data]
    group = group or _gloo_group()
    is_destination = dist.get_rank(group) == dst
    gathered: list[Any] | None = [None] * dist.get_world_size(group) if is_destination else None
    dist.gather_object(data, gathered, dst=dst, group=group)
    return gathered or []


def reduce_dict(input_dict: dict[str, torch.Tensor], average: bool = True) -> dict:
    """Reduces tensors over all processes; only the main process has the result.

    Args:
        input_dict: tensors of one shape, dtype and device, under the same names in every process.
        average: whether to return means instead of sums.
    """
    if get_world_size() == 1:
        return input_dict
    names = sorted(input_dict)  # processes may have inserted them in different orders
    total = torch.stack([input_dict[name].detach() for name in names])
    dist.reduce(total, dst=0)
    return dict(zip(names, total / get_world_size() if average else total))


def shared_random_seed() -> int:
    """Returns a random number that is equal in all processes; all of them must call it."""
    # Detectron2 draws from numpy's generator; a draw from the operating system leaves the state of
    # numpy's generator unchanged.
    return all_gather(secrets.randbelow(2**31))[0]
