"""Memory that a model takes in evaluation and training, by PyTorch's profiler."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import profile
from torch.utils.module_tracker import ModuleTracker

from .flops import OTHER, num_bytes


@dataclass(frozen=True)
class WorkingMemory:
    """Bytes that a batch takes beside the weights.

    Attributes:
        inference: peak of its evaluation.
        training: peak of forward and backward pass, gradients included.
        saved: what the forward pass keeps for the backward pass, by the part that kept it first.
        gradients, optimizer: of all gradients, and of the optimizer's state after a step.
    """

    inference: int
    training: int
    saved: Mapping[str, int]
    gradients: int
    optimizer: int


def working_memory(
    model: nn.Module,
    batch: Sequence[dict],
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    precision: torch.dtype | None = None,
) -> WorkingMemory:
    """Evaluates a batch for training, in full precision, and trains a copy of the model on it for
    a step, in the given precision of autocast."""
    device = next(model.parameters()).device
    with torch.no_grad():
        inference = peak_memory(partial(model.eval(), batch), device)
    trained, saved = copy.deepcopy(model).train(), Counter()

    def forward_and_backward() -> None:
        autocast = torch.autocast(device.type, precision, enabled=precision is not None)
        with autocast, saved_by_part(trained, saved):
            loss = sum(trained(batch).values())
        loss.backward()

    training = peak_memory(forward_and_backward, device)
    gradients = num_bytes([parameter.grad for parameter in trained.parameters()])
    stepped = optimizer(trained)
    stepped.step()
    return WorkingMemory(inference, training, dict(saved), gradients, num_bytes(stepped.state))


@contextmanager
def saved_by_part(model: nn.Module, saved: Counter[str]) -> Iterator[None]:
    """Adds to ``saved`` the bytes that are kept for the backward pass, without weights, by the
    child of the model that runs; ``OTHER`` where none does."""
    known = {t.untyped_storage().data_ptr() for t in chain(model.parameters(), model.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            running = (name.split(".")[1] for name in tracker.parents if "." in name)
            saved[next(running, OTHER)] += storage.nbytes()
        return tensor.detach()

    with ModuleTracker() as tracker, saved_tensors_hooks(pack, Tensor.detach):
        yield


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """The most bytes that ``run`` has allocated at a time, without what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    return max(accumulate((e.nbytes() for e in events if e.name() == "[memory]"), initial=0))
