"""How long the processes of a job wait for each other, and what is logged when one does not answer.

PyTorch ends a collective that takes too long and notices connections that break; launchers notice
processes that end. This module adds the rest: which rank is missing, by gloo's monitored barrier;
where the threads of a stuck process are, by ``faulthandler``; and a wait with a limit of its own
for the work that rank 0 does alone.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from fsdbev.d2.engine import HookBase
from fsdbev.d2.utils import comm

from .stopping import PREEMPTED, RANK_LOST

logger = logging.getLogger(__name__)

#: How long the other processes have to answer when a collective has failed.
_ANSWER = timedelta(seconds=20)
#: How long a process that was asked to stop waits for the others to finish too.
_STOP = timedelta(seconds=60)
#: Seconds by which a process whose collective failed ends after the one that is to blame, so that
#: the launcher reports that one.
_DELAY = 3.0


@dataclass(frozen=True)
class DistributedTimeouts:
    """``train.distributed``: time limits of a job with several processes.

    Attributes:
        timeout_minutes: of a collective. A process that needs longer for an iteration, or for a
            batch of an evaluation, logs where its threads are.
        rank0_timeout_minutes: of the work that rank 0 does while the others wait, such as scoring
            an evaluation or saving to slow storage.
    """

    timeout_minutes: float = 10.0
    rank0_timeout_minutes: float = 120.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(
                    f"train.distributed.{field.name} is {getattr(self, field.name)}: it must be "
                    "positive"
                )

    @property
    def collective(self) -> timedelta:
        return timedelta(minutes=self.timeout_minutes)

    @property
    def rank0(self) -> timedelta:
        return timedelta(minutes=self.rank0_timeout_minutes)


@dataclass(frozen=True)
class _Job:
    timeouts: DistributedTimeouts
    group: dist.ProcessGroup  # all processes, over gloo


_job: _Job | None = None  # None in a job of one process


@contextmanager
def supervised(timeouts: DistributedTimeouts) -> Iterator[None]:
    """Runs the part of a job that one process does; all processes of the job enter it together.

    When a collective fails, the log says which rank does not answer.

    Raises:
        SystemExit: with ``RANK_LOST``, instead of the error of a collective.
    """
    global _job
    if comm.get_world_size() == 1:
        yield
        return
    group = dist.new_group(backend="gloo", timeout=timeouts.collective)
    _job = _Job(timeouts, group)
    try:
        yield
    except SystemExit as stop:
        if stop.code == PREEMPTED:
            with suppress(RuntimeError):  # another process may have ended already
                dist.monitored_barrier(group, timeout=_STOP)
        raise
    except RuntimeError as error:
        if not _is_from_collective(error):
            raise
        logger.error("A collective failed: %s", error)
        logger.error(
            "%s. This process ends with status %d; --resume goes on from the last checkpoint",
            _missing_ranks(_job),
            RANK_LOST,
        )
        time.sleep(_DELAY)
        raise SystemExit(RANK_LOST) from error
    finally:
        faulthandler.cancel_dump_traceback_later()
        _job = group = None  # gloo's threads must end before the interpreter does


def wait_for_rank0() -> None:
    """Returns when every process has called it. Rank 0 may call it ``rank0_timeout_minutes`` after
    the others, which other collectives do not allow."""
    if _job is not None:
        limit = _job.timeouts.collective if comm.is_main_process() else _job.timeouts.rank0
        dist.monitored_barrier(_job.group, timeout=limit)


class ThreadDump(HookBase):
    """Appends the stacks of all threads to this rank's log file, when an iteration of the training
    or a batch of an evaluation takes longer than a collective may. Does so in jobs of several
    processes only.

    On a machine with one process of the job nobody ends that process when it is stuck, so there
    the stacks are written after twice that time, and the process ends with status 1.

    Args:
        output_dir: folder of the log files.
    """

    def __init__(self, output_dir: str) -> None:
        rank = comm.get_rank()
        path = os.path.join(output_dir, f"log.txt.rank{rank}" if rank else "log.txt")
        # faulthandler writes to the file's descriptor, so the file stays open
        self._file = open(path, "a", encoding="utf-8") if _job is not None else None

    def start(self) -> None:
        """Starts the clock anew."""
        if self._file is None:
            return
        alone = comm.get_local_size() == 1
        limit = _job.timeouts.collective * (2 if alone else 1)
        faulthandler.dump_traceback_later(limit.total_seconds(), file=self._file, exit=alone)

    def before_step(self) -> None:
        self.start()

    def after_step(self) -> None:
        faulthandler.cancel_dump_traceback_later()


class DumpingLoader:
    """A loader of an evaluation that starts the clock of a ``ThreadDump`` with each batch."""

    def __init__(self, loader: Iterable, dump: ThreadDump) -> None:
        self._loader = loader
        self._dump = dump

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        self._dump.start()
        for batch in self._loader:
            yield batch
            self._dump.start()
        faulthandler.cancel_dump_traceback_later()


def _is_from_collective(error: RuntimeError) -> bool:
    """Errors of gloo have no class of their own, but name its source file."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _missing_ranks(job: _Job) -> str:
    """Which ranks do not answer, as rank 0 finds; other ranks refer to it."""
    limit = min(_ANSWER, job.timeouts.collective)
    try:
        dist.monitored_barrier(job.group, timeout=limit, wait_all_ranks=True)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return "All ranks answer: the network may have failed for a while"
