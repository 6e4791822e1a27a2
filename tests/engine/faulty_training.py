"""Toy training with faults given by the environment variable FAULT.

``FAULT`` is ``<kind>@<place>:<iteration>:<rank>``, or several separated by commas. Kinds: ``kill``
(SIGKILL to itself), ``sleep<seconds>``, ``raise``. Places: ``load``, ``train``, ``evaluate``,
``score``, ``save``.
"""

import os
import signal
import time

import toy_training

from fsdbev.d2.utils import comm


def fail_at(place, iteration):
    """Fails if FAULT has this place and iteration for this rank."""
    faults = (fault.split("@") for fault in os.environ["FAULT"].split(","))
    kind = next((k for k, where in faults if where == f"{place}:{iteration}:{comm.get_rank()}"), "")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind.startswith("sleep"):
        time.sleep(float(kind.removeprefix("sleep")))
    elif kind == "raise":
        raise ValueError("broken on purpose")


class FaultyModel(toy_training.ToyModel):
    """Toy model that can fail in its forward pass and when it is saved."""

    def __init__(self):
        super().__init__()
        self.calls = {True: 0, False: 0}
        self.saved = 0

    def forward(self, batch):
        fail_at("train" if self.training else "evaluate", self.calls[self.training])
        self.calls[self.training] += 1
        return super().forward(batch)

    def state_dict(self, *args, **kwargs):
        if self.calls[True]:  # before the first iteration the call is by the EMA
            fail_at("save", self.saved)
            self.saved += 1
        return super().state_dict(*args, **kwargs)


class FaultyEvaluator(toy_training.ToyEvaluator):
    def evaluate(self):
        results = super().evaluate()
        fail_at("score", 0)
        return results


class FaultySampler(toy_training.ToySampler):
    def __iter__(self):
        for count, number in enumerate(super().__iter__()):
            if count % 4 == 0:
                fail_at("load", count // 4)
            yield number


def train_loader(*, total_batch_size, num_workers):
    loader = toy_training.train_loader(total_batch_size=total_batch_size, num_workers=num_workers)
    return toy_training.DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=FaultySampler(),
        collate_fn=loader.collate_fn,
        num_workers=num_workers,
    )
