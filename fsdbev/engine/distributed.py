"""Time limits of jobs with several processes, and the diagnosis of a rank that does not respond.

PyTorch ends a collective that exceeds its limit, and launchers detect processes that exit. This
module logs the missing rank and a stuck process's stacks, and extends the limit for rank 0's work.
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
_RESPONSE_LIMIT = timedelta(seconds=30)  # for the other ranks to respond after a failure or stop


@dataclass(frozen=True)
class DistributedTimeouts:
    """Time limits of a job with several processes (``train.distributed``).

    Attributes:
        timeout_minutes: limit of a collective; a process whose iteration, or batch of an
            evaluation, takes longer logs the stacks of its threads.
        rank0_timeout_minutes: limit of rank 0's work while the others wait, e.g. scoring or saving.
    """

    timeout_minutes: float = 10.0
    rank0_timeout_minutes: float = 120.0

    def __post_init__(self) -> None:
        for name, minutes in vars(self).items():
            if not minutes > 0:  # also true for NaN
                raise ValueError(f"train.distributed.{name} is {minutes}: it must be positive")

    @property
    def collective(self) -> timedelta:
        return timedelta(minutes=self.timeout_minutes)

    @property
    def rank0(self) -> timedelta:
        return timedelta(minutes=self.rank0_timeout_minutes)


# All ranks, over gloo: NCCL has no monitored barrier. None in a job with one process.
_gloo_group: dist.ProcessGroup | None = None
_timeouts = DistributedTimeouts()


@contextmanager
def supervised(timeouts: DistributedTimeouts) -> Iterator[None]:
    """Runs one process's part of a job; all processes of the job must enter it.

    Raises:
        SystemExit: a collective failed; status ``RANK_LOST``. The log names the missing rank.
    """
    global _gloo_group, _timeouts
    if comm.get_world_size() == 1:
        yield
        return
    _gloo_group, _timeouts = dist.new_group(backend="gloo", timeout=timeouts.rank0), timeouts
    try:
        yield
    except BaseException as error:
        faulthandler.cancel_dump_traceback_later()  # an exiting process is not the stuck one
        if isinstance(error, SystemExit) and error.code == PREEMPTED:
            # The launcher kills the other processes as soon as one exits, so all exit together.
            with suppress(RuntimeError):  # another process may have exited already
                dist.monitored_barrier(_gloo_group, timeout=_RESPONSE_LIMIT)
        is_gloo_error = isinstance(error, RuntimeError) and "gloo" in str(error)  # has no class
        if not is_gloo_error and not isinstance(error, dist.DistError):
            raise
        logger.error("A collective failed: %s", error)
        missing = _missing_ranks()
        logger.error("%s. This process exits with status %d; use --resume", missing, RANK_LOST)
        time.sleep(3)  # launchers report the process that exits first: let the faulty one do so
        raise SystemExit(RANK_LOST) from error
    finally:
        _gloo_group = None  # gloo's threads must end before the interpreter does


def _missing_ranks() -> str:
    """Describes which ranks do not respond. Only rank 0 finds out; the others refer to its log."""
    limit = min(_RESPONSE_LIMIT, _timeouts.collective)
    try:
        dist.monitored_barrier(_gloo_group, timeout=limit, wait_all_ranks=True)
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        return text if "Barrier" in text else "Another process has exited; see the launcher's log"
    return "All ranks respond: the network may have failed temporarily"


def wait_for_rank0() -> None:
    """Waits for all processes; rank 0 may arrive up to ``rank0_timeout_minutes`` later."""
    if _gloo_group is not None:
        limit = _timeouts.collective if comm.is_main_process() else _timeouts.rank0
        dist.monitored_barrier(_gloo_group, timeout=limit)


class ThreadDump(HookBase):
    """Hook that appends the stacks of all threads to this rank's log file when an iteration, or a
    batch of an evaluation, exceeds the limit of a collective. Inactive in jobs with one process.

    No launcher ends a stuck process that is the only one on its machine. There the limit is twice
    as long, and the process exits with status 1 after writing the stacks.

    Args:
        output_dir: folder of the log files.
    """

    def __init__(self, output_dir: str) -> None:
        path = f"{output_dir}/log.txt" + (f".rank{rank}" if (rank := comm.get_rank()) else "")
        # faulthandler writes to the file's descriptor, so the file stays open
        self._file = None if _gloo_group is None else open(path, "a")

    def before_step(self) -> None:
        """Restarts the timer."""
        if self._file is not None:
            is_only_one = comm.get_local_size() == 1
            limit = _timeouts.collective.total_seconds() * (2 if is_only_one else 1)
            faulthandler.dump_traceback_later(limit, file=self._file, exit=is_only_one)

    def after_step(self) -> None:
        faulthandler.cancel_dump_traceback_later()


class TimedLoader:
    """Loader of an evaluation that restarts the timer of a ``ThreadDump`` with every batch."""

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
