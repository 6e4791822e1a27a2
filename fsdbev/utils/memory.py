"""Memory that a model needs in evaluation and training, measured with PyTorch's profiler."""

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
    """Memory for a batch in addition to the weights, in bytes.

    Attributes:
        inference: peak during evaluation.
        training: peak during forward and backward pass, including gradients.
        saved: part -> tensors that the forward pass saves for the backward pass; a shared tensor
            counts for the part that saves it first.
        gradients: all gradients.
        optimizer: state of the optimizer after one step.
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
    """Measures one evaluation and one training step of a batch.

    Args:
        model: the model; it stays in eval mode and is not trained.
        batch: samples with training targets.
        optimizer: builds the optimizer of a model.
        precision: dtype of autocast in training; None: full precision, as in evaluation.
    """
    device = next(model.parameters()).device
    with torch.no_grad():
        inference = peak_memory(partial(model.eval(), batch), device)
    # A copy, so that the step changes neither weights nor BatchNorm statistics of the model.
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
    """Adds to ``saved`` the bytes that the block saves for a backward pass, without weights.

    Args:
        model: model that runs in the block.
        saved: name of the running child of the model, or ``OTHER`` -> bytes.
    """
    # Storages are counted once: views and repeated uses of a tensor need no further memory.
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
    """Returns the peak of the bytes that ``run`` allocates, without earlier allocations.

    Args:
        run: function to measure.
        device: device that it runs on; on the CPU PyTorch's profiler records the allocations.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    return max(accumulate((e.nbytes() for e in events if e.name() == "[memory]"), initial=0))
