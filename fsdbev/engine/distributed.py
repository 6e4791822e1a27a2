"""How long the processes of a job wait for each other, and what is logged when one does not answer.

PyTorch ends a collective that takes too long, launchers notice processes that end. This module adds
which rank does not answer, where a stuck process is, and a longer limit for the work of rank 0.
"""

from __future__ import annotations

import faulthandler
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist

from fsdbev.d2.engine import HookBase
from fsdbev.d2.utils import comm
from fsdbev.utils.processes import PREEMPTED, RANK_LOST

logger = logging.getLogger(__name__)
_ANSWER = timedelta(seconds=30)  # for the other ranks to answer, or to stop when all were asked to


@dataclass(frozen=True)
class DistributedTimeouts:
    """``train.distributed``: time limits of a job with several processes.

    Attributes:
        timeout_minutes: of a collective; also how long an iteration, or a batch of an evaluation,
            takes before the process logs where its threads are.
        rank0_timeout_minutes: of the work of rank 0 while the others wait, as scoring or saving.
    """

    timeout_minutes: float = 10.0
    rank0_timeout_minutes: float = 120.0

    def __post_init__(self) -> None:
        for name, minutes in vars(self).items():
            if not minutes > 0:
                raise ValueError(f"train.distributed.{name} is {minutes}: it must be positive")

    @property
    def collective(self) -> timedelta:
        return timedelta(minutes=self.timeout_minutes)

    @property
    def rank0(self) -> timedelta:
        return timedelta(minutes=self.rank0_timeout_minutes)


# All processes, over gloo; None in a job of one process. Its limit bounds that of each barrier.
_group: dist.ProcessGroup | None = None
_timeouts = DistributedTimeouts()


@contextmanager
def supervised(timeouts: DistributedTimeouts) -> Iterator[None]:
    """Runs one process's part of a job; all processes of the job enter it together.

    Raises:
        SystemExit: with ``RANK_LOST``, for the error of a collective; the log has the missing rank.
    """
    global _group, _timeouts
    if comm.get_world_size() == 1:
        yield
        return
    _group, _timeouts = dist.new_group(backend="gloo", timeout=timeouts.rank0), timeouts
    try:
        yield
    except BaseException as error:
        faulthandler.cancel_dump_traceback_later()  # this process ends: it is not the stuck one
        if isinstance(error, SystemExit) and error.code == PREEMPTED:
            with suppress(RuntimeError):  # another process may have ended already
                dist.monitored_barrier(_group, timeout=_ANSWER)
        of_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)  # has no error class
        if not of_gloo and not isinstance(error, dist.DistError):
            raise
        logger.error("A collective failed: %s", error)
        missing = _missing_ranks()
        logger.error("%s. This process ends with status %d; --resume goes on", missing, RANK_LOST)
        time.sleep(3)  # so that the launcher sees, and reports, the process at fault first
        raise SystemExit(RANK_LOST) from error
    finally:
        _group = None  # gloo's threads must end before the interpreter does


def _missing_ranks() -> str:
    """Which ranks do not answer, as rank 0 finds; on the other ranks, a reference to its log."""
    limit = min(_ANSWER, _timeouts.collective)
    try:
        dist.monitored_barrier(_group, timeout=limit, wait_all_ranks=True)
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        return text if "Barrier" in text else "Another process has ended, which its launcher names"
    return "All ranks answer: the network may have failed for a while"


def wait_for_rank0() -> None:
    """Returns when every process has called it; rank 0 may be ``rank0_timeout_minutes`` late."""
    if _group is not None:
        limit = _timeouts.collective if comm.is_main_process() else _timeouts.rank0
        dist.monitored_barrier(_group, timeout=limit)


class ThreadDump(HookBase):
    """In a job of several processes, appends the stacks of all threads to this rank's log file when
    an iteration, or a batch of an evaluation, takes longer than a collective may.

    Nobody ends a stuck process that is alone on its machine. There the stacks are written after
    twice that time, and the process ends with status 1.

    Args:
        output_dir: folder of the log files.
    """

    def __init__(self, output_dir: str) -> None:
        path = f"{output_dir}/log.txt" + (f".rank{rank}" if (rank := comm.get_rank()) else "")
        # faulthandler writes to the file's descriptor, so the file stays open
        self._file = None if _group is None else open(path, "a")

    def before_step(self) -> None:
        """Starts the clock anew."""
        if self._file is not None:
            alone = comm.get_local_size() == 1
            limit = _timeouts.collective.total_seconds() * (2 if alone else 1)
            faulthandler.dump_traceback_later(limit, file=self._file, exit=alone)

    def after_step(self) -> None:
        faulthandler.cancel_dump_traceback_later()


class TimedLoader:
    """A loader of an evaluation whose batches start the clock of a ``ThreadDump`` anew."""

    def __init__(self, loader: Iterable, dump: ThreadDump) -> None:
        self._loader, self._dump = loader, dump

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator:
        self._dump.before_step()
        for batch in self._loader:
            yield batch
            self._dump.before_step()
        self._dump.after_step()
