"""Memory of a model: its weights by part, and what evaluating and training it takes beside them.

Tensors are counted by their storages, each once, in bytes. On a GPU the peaks are PyTorch's own
(``torch.cuda.max_memory_allocated``), with the workspaces of the operators. On the CPU nobody keeps
such a count: there the peaks are of the tensors that operators give, from the operator that makes a
storage until nobody holds it; what an operator needs inside, and gives back, is not seen.
"""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from fsdbev.data.fake import fake_samples

#: Name of what is in no part.
OTHER = "other"


@dataclass(frozen=True)
class PartWeights:
    """Bytes of a part's parameters and buffers."""

    parameters: int
    buffers: int


@dataclass(frozen=True)
class WorkingMemory:
    """Bytes that a batch takes beside the weights.

    Attributes:
        inference: peak while it is evaluated.
        training: peak of forward and backward pass, gradients included.
        saved: what the forward pass keeps for the backward pass, by the part that kept it first.
        gradients: of all parameters that have one.
        optimizer: state after a step, twice the parameters for AdamW; 0 without an optimizer.
    """

    inference: int
    training: int
    saved: Mapping[str, int]
    gradients: int
    optimizer: int


def weights_by_part(model: nn.Module) -> dict[str, PartWeights]:
    """Of every child of the model by name, and of what is in none (``OTHER``)."""
    parts = {name: _weights(part) for name, part in model.named_children()}
    whole = _weights(model)
    parts[OTHER] = PartWeights(
        whole.parameters - sum(part.parameters for part in parts.values()),
        whole.buffers - sum(part.buffers for part in parts.values()),
    )
    return parts


def working_memory(
    model: nn.Module,
    *,
    image_size: tuple[int, int],
    num_cameras: int = 6,
    batch_size: int = 1,
    precision: torch.dtype | None = None,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
) -> WorkingMemory:
    """Evaluates fake samples and trains a copy of the model on them for one step.

    Args:
        model: on the device to measure; its weights stay as they are.
        image_size: (H, W) of the network image.
        num_cameras: N.
        batch_size: samples in the batch of either.
        precision: of autocast in training; None for full precision. Evaluation runs in full
            precision, as ``evaluate`` does.
        optimizer: makes one for the copy; None takes no step.
    """
    sizes = {"num_frames": model.num_frames, "num_cameras": num_cameras, "image_size": image_size}
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad(), _peak(device) as inference:
        model(fake_samples(batch_size, **sizes))

    trained = copy.deepcopy(model).train()
    batch = fake_samples(batch_size, **sizes, training=True)
    with _peak(device) as training:
        with torch.autocast(device.type, precision, enabled=precision is not None):
            with saved_by_part(trained) as saved:
                loss = sum(trained(batch).values())
        loss.backward()
    del loss
    gradients = sum(p.grad.nbytes for p in trained.parameters() if p.grad is not None)
    state = _state_bytes(trained, optimizer) if optimizer else 0
    return WorkingMemory(inference[0], training[0], dict(saved), gradients, state)


@contextmanager
def saved_by_part(model: nn.Module) -> Iterator[Counter[str]]:
    """Counts what is kept for the backward pass while the context lasts, by the child of the model
    that runs; ``OTHER`` where none does. Weights are not counted: they are there anyway."""
    known = {tensor.untyped_storage().data_ptr() for tensor in _tensors(model)}
    saved: Counter[str] = Counter()
    running = [OTHER]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            saved[running[-1]] += storage.nbytes()
        return tensor.detach()

    handles = _follow(model, running)
    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            yield saved
    finally:
        for handle in handles:
            handle.remove()


def _follow(model: nn.Module, running: list[str]) -> list[RemovableHandle]:
    """Hooks that keep the name of the part that runs at the end of ``running``."""
    handles = []
    for name, module in model.named_modules():
        if name:
            part = name.partition(".")[0]
            enter = module.register_forward_pre_hook(lambda *_, part=part: running.append(part))
            leave = module.register_forward_hook(lambda *_: _drop_last(running), always_call=True)
            handles += [enter, leave]
    return handles


def _drop_last(running: list[str]) -> None:
    running.pop()


@contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """A list that at the end has the peak, in bytes, above what was there at the start."""
    peak: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.append(torch.cuda.max_memory_allocated(device) - before)
    else:
        with LiveTensors() as tensors:
            yield peak
        peak.append(tensors.peak)


class LiveTensors(TorchDispatchMode):
    """Bytes of the storages that operators made since this context was entered and that are held.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence = (), kwargs: Mapping | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in tree_leaves((args, dict(kwargs))):
            self._add(tensor, counts=False)  # it was there before, if it is not known
        result = func(*args, **kwargs)
        for tensor in tree_leaves(result):
            self._add(tensor, counts=True)
        self.peak = max(self.peak, self.now)
        return result

    def _add(self, tensor: Any, *, counts: bool) -> None:
        if not isinstance(tensor, Tensor):
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if counts else 0

        def gone(_: weakref.ref) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)
        self.now += size


def _weights(module: nn.Module) -> PartWeights:
    return PartWeights(
        sum(parameter.nbytes for parameter in module.parameters()),
        sum(buffer.nbytes for buffer in module.buffers()),
    )


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _state_bytes(model: nn.Module, build: Callable[[nn.Module], torch.optim.Optimizer]) -> int:
    optimizer = build(model)
    optimizer.step()
    return sum(
        value.nbytes
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
