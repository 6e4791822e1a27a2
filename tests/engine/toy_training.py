"""Model, data and evaluator of the toy training: a regression that trains in milliseconds."""

import os
import signal
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fsdbev.d2.data import trivial_batch_collator
from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.d2.utils import comm


class ToySampler(torch.utils.data.Sampler):
    """Infinite draw numbers; rank r of R gets every R-th."""

    def __init__(self):
        self.start = 0

    def __iter__(self):
        number = self.start + comm.get_rank()
        while True:
            yield number
            number += comm.get_world_size()


class ToyDataset(Dataset):
    """Item i: x is random, seeded by i, y its sum; for i in ``infinite``, x is infinite instead."""

    def __init__(self, length, infinite=()):
        self.length = length
        self.infinite = infinite

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index >= self.length:
            raise IndexError(index)
        x = torch.randn(4, generator=torch.Generator().manual_seed(index))
        y = x.sum()
        if index in self.infinite:
            x = torch.full_like(x, float("inf"))
        return {"x": x, "y": y, "index": index, "sample_token": f"sample-{index}"}


class ToyModel(nn.Module):
    """Model that returns losses in training and predictions in evaluation, with dropout.

    One loss is NaN in the calls of ``nan_at``, counted from 0.
    """

    def __init__(self, *, nan_at=()):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2))
        self.out = nn.Linear(8, 1)
        self.nan_at = nan_at
        self.seen = []

    def forward(self, batch):
        y = self.out(self.net(torch.stack([s["x"] for s in batch]))).squeeze(1).float()
        if not self.training:
            return list(y)
        self.seen.append([s["index"] for s in batch])
        if os.environ.get("TOY_STOP_AT") == str(len(self.seen) - 1) and comm.get_rank() == 1:
            stop_the_job()
        loss = (y - torch.stack([s["y"] for s in batch])).square().mean()
        bad = float("nan") if len(self.seen) - 1 in self.nan_at else 0.0
        return {"loss_main": loss, "loss_small": 1e-3 * y.square().mean() + bad}


def stop_the_job():
    """Sends SIGTERM to the parent process and waits until it is forwarded to this process."""
    arrived = []
    handler = signal.signal(signal.SIGTERM, lambda *_: arrived.append(True))
    os.kill(os.getppid(), signal.SIGTERM)
    for _ in range(6000):
        if arrived:
            break
        time.sleep(0.01)
    else:
        raise RuntimeError("the signal was not passed on")
    signal.signal(signal.SIGTERM, handler)
    os.kill(os.getpid(), signal.SIGTERM)


class ToyEvaluator(DatasetEvaluator):
    """Evaluator of the mean squared error over all ranks, and a metric that is always NaN."""

    def reset(self):
        self.errors = []

    def process(self, inputs, outputs):
        self.errors += [float((o - i["y"]) ** 2) for i, o in zip(inputs, outputs, strict=True)]

    def evaluate(self):
        errors = sum(comm.gather(self.errors), [])
        if not comm.is_main_process():
            return None
        return {
            "toy": {"error": sum(errors) / len(errors), "count": len(errors), "never": float("nan")}
        }


def train_loader(*, total_batch_size, num_workers=0, infinite=()):
    return DataLoader(
        ToyDataset(10**9, infinite),
        batch_size=total_batch_size // comm.get_world_size(),
        sampler=ToySampler(),
        collate_fn=trivial_batch_collator,
        num_workers=num_workers,
    )


def test_loader(*, length):
    from fsdbev.d2.data import InferenceSampler

    return DataLoader(
        ToyDataset(length),
        batch_size=1,
        sampler=InferenceSampler(length),
        collate_fn=trivial_batch_collator,
    )
