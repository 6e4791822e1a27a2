"""Judging what the processes of a job tell of themselves."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta

from fsdbev.d2.utils import comm

from ..stopping import PREEMPTED, RANK_LOST
from .activity import Activity, Now, now
from .exchange import Exchange, Heard

logger = logging.getLogger(__name__)

_ENDS = f"This process ends with status {RANK_LOST}; --resume goes on from the last checkpoint"


@dataclass(frozen=True)
class Patience:
    """``train.distributed``: how long the processes of a job wait for each other.

    Attributes:
        timeout_minutes: of a collective.
        lost_after: seconds without a sign of life after which a rank is lost and the job ends;
            twice as long in a slow activity, where reading large files may hold up all threads.
        stuck_after: seconds in one activity after which a rank is named as stuck.
    """

    timeout_minutes: float = 30.0
    lost_after: float = 25.0
    stuck_after: float = 45.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(
                    f"train.distributed.{field.name} is {getattr(self, field.name)}: it must be "
                    "positive"
                )

    @property
    def timeout(self) -> timedelta:
        """Of a collective."""
        return timedelta(minutes=self.timeout_minutes)

    @property
    def heartbeat(self) -> float:
        """Seconds from one sign of life to the next."""
        return min(2.0, self.lost_after / 12)


@contextmanager
def watched(patience: Patience, host: str) -> Iterator[None]:
    """Watches this process while it does its part of a job, and the others with it.

    What ends it is told to the other ranks. An error that comes of another rank's end is logged
    with that rank's name.

    Args:
        host: name by which all ranks reach the machine of rank 0.

    Raises:
        SystemExit: with ``RANK_LOST``, for an error that comes of another rank's end.
    """
    exchange = None
    if comm.get_world_size() > 1:
        exchange = Exchange.among_all(host, patience.heartbeat, patience.lost_after)
    watchdog = Watchdog(patience, exchange)
    try:
        yield
        watchdog.end("done")
    except SystemExit as stop:
        preempted = stop.code == PREEMPTED
        failed = stop.code not in (None, 0, PREEMPTED)
        watchdog.end(f"status {stop.code}", failed=failed, together=preempted)
        raise
    except BaseException as error:
        if watchdog.blames_another(error):
            watchdog.end("what happened to another rank", failed=True)
            raise SystemExit(RANK_LOST) from error
        watchdog.end(f"{type(error).__name__}: {error}", failed=True)
        raise


class Watchdog:
    """A thread that looks at this process and, through an exchange, at the others.

    - A rank without a sign of life is named at ERROR, and this process ends with ``RANK_LOST``.
    - A rank that ended with an error is named at ERROR; this process ends if it then waits.
    - A rank that gets no further is named at WARNING by those who wait for it, and logs where all
      its threads are, again and again at growing intervals.
    - Before a collective times out, the ranks that have not arrived are named at ERROR.

    Args:
        exchange: None in a job of one process.
    """

    def __init__(self, patience: Patience, exchange: Exchange | None) -> None:
        self._patience = patience
        self._exchange = exchange
        self._tick = patience.heartbeat / 2
        self._awake_since = self._last_look = time.monotonic()
        self._told_failed: set[int] = set()
        self._watching = now()
        self._next_report = patience.stuck_after
        self._told_timeout = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def end(self, text: str, *, failed: bool = False, together: bool = False) -> None:
        """Tells the others how this process ends, and stops watching.

        Args:
            together: first waits for the others to end too, for a minute at most: the first process
                that is gone may take the others with it.
        """
        self._stop.set()
        self._thread.join(timeout=4 * self._tick)
        if self._exchange is None:
            return
        self._exchange.say_farewell(text, failed=failed)
        if together:
            self._exchange.wait_for_others(60, to_end=True)
        elif self._exchange.rank == 0:  # the store goes with this process
            self._exchange.wait_for_others(4 * self._patience.heartbeat, to_end=False)
        if not self._exchange.close():  # a thread in there makes the interpreter abort as it ends
            _exit("Rank 0 does not answer any more")

    def blames_another(self, error: BaseException) -> bool:
        """Whether an error of this process comes of another rank's end, which is then logged."""
        if self._exchange is None or not isinstance(error, RuntimeError) or not _waits():
            return False
        self._stop.set()  # the main thread ends this process now
        beat = self._patience.heartbeat
        deadline = time.monotonic() + 6 * beat
        while time.monotonic() < deadline:
            failed = [h for h in self._exchange.others() if h.report.failed]
            lost = failed or self._silent(4 * beat, if_slow=4 * beat)
            for heard in lost:
                logger.error("%s. What failed here for it: %s", _fate(heard), error)
            if lost:
                time.sleep(3 * beat)  # the cause goes first: its error is what a launcher shows
                return True
            time.sleep(beat / 4)
        return False

    def _run(self) -> None:
        while not self._stop.wait(self._tick):
            self._notice_own_pause()
            if self._exchange is not None:
                self._look_for_lost()
                self._look_for_failed()
                self._look_for_timeout()
            self._look_for_stuck()

    def _notice_own_pause(self) -> None:
        """After this process was stopped for a while, the others count as heard of just now."""
        moment = time.monotonic()
        pause = moment - self._last_look
        if pause > self._patience.lost_after / 2:
            logger.warning("This process stood still for %.0f s", pause)
            self._awake_since = moment
        self._last_look = moment

    def _silent(self, seconds: float, *, if_slow: float) -> list[Heard]:
        """Ranks that gave no sign of life for so long, ``if_slow`` in a slow activity. Where that
        is the one that has the store, nothing is known of the others."""
        moment = time.monotonic()

        def is_silent(heard: Heard, at: float) -> bool:
            limit = if_slow if heard.activity.slow else seconds
            return moment - max(at, self._awake_since) > limit

        others = [h for h in self._exchange.others() if h.report.farewell is None]
        if moment - max(self._exchange.last, self._awake_since) > seconds:
            return [h for h in others if h.report.rank == 0 and is_silent(h, self._exchange.last)]
        return [h for h in others if is_silent(h, h.at)]

    def _look_for_lost(self) -> None:
        limit = self._patience.lost_after
        lost = self._silent(limit, if_slow=2 * limit)
        if lost:
            self._give_up("; ".join(_fate(heard) for heard in lost))

    def _give_up(self, reason: str) -> None:
        self._exchange.say_farewell(reason, failed=True)
        _exit(reason)

    def _look_for_failed(self) -> None:
        for heard in self._exchange.others():
            if not heard.report.failed:
                continue
            if heard.report.rank not in self._told_failed:
                self._told_failed.add(heard.report.rank)
                logger.error("%s", _fate(heard))
            if _waits() and min(time.monotonic() - heard.at, _age()) > self._patience.lost_after:
                self._give_up(f"Nothing more comes from {heard.report}")

    def _look_for_timeout(self) -> None:
        limit = 60 * self._patience.timeout_minutes
        if not _waits() or now().activity.slow or _age() < limit - 2 * self._patience.heartbeat:
            return
        if not self._told_timeout:
            self._told_timeout = True
            behind = [_delay(h) for h in self._behind()] or ["all did: the network may hang"]
            logger.error(
                "%s for %.0f s: the time of a collective (train.distributed.timeout_minutes) is "
                "over. Not arrived: %s",
                now().activity.text,
                _age(),
                "; ".join(behind),
            )
        if _age() > limit + 4 * self._patience.heartbeat:  # the backend had its own, longer time
            self._give_up("A collective did not end in time")

    def _look_for_stuck(self) -> None:
        """Looks whether what this process does takes too long, and why."""
        if now() != self._watching:
            self._watching = now()
            self._next_report = self._patience.stuck_after
            self._told_timeout = False
        if _age() < self._next_report:
            return
        if not now().activity.waits:
            self._tell_own_delay()
        elif self._exchange is not None and not self._tell_others_delay():
            return
        self._next_report *= 2

    def _tell_own_delay(self) -> None:
        state = now()
        text = f"This process has been {state.activity.text} for {_age():.0f} s"
        _tell(state.activity, f"{text}, at iteration {state.iteration}")

    def _tell_others_delay(self) -> bool:
        """Names those this process waits for. False: look again in a moment, perhaps it is told
        from whom it is only a little later."""
        behind = self._behind()
        late = [h for h in behind if h.report.farewell or h.seconds() >= self._patience.stuck_after]
        if behind and not late:
            return _age() > 2 * self._next_report  # they get on, but not here
        mine = f"{now().activity.text} for {_age():.0f} s"
        if not behind:
            _tell(now().activity, f"This process and all others are {mine}")
        for heard in late:
            slow = now().activity.slow or heard.activity.slow
            tell = logger.info if slow else logger.warning
            tell("This process (%s) waits for %s", mine, _delay(heard))
        return True

    def _behind(self) -> Sequence[Heard]:
        """Ranks that this one may be waiting for: those that ended, else those that are busy, else
        those that are behind it. None: all are where this one is, or further."""
        others = self._exchange.others()
        ended = [h for h in others if h.report.farewell]
        busy = [h for h in others if not h.report.farewell and not h.activity.waits]
        slower = [h for h in others if h.activity.slow and h.activity != now().activity]
        return ended or busy or slower or [h for h in others if _place(h) < _own_place(now())]


def _waits() -> bool:
    return now().activity.waits


def _age() -> float:
    return time.monotonic() - now().since


def _place(heard: Heard) -> tuple[int, int]:
    return heard.report.iteration, heard.activity.place


def _own_place(state: Now) -> tuple[int, int]:
    return state.iteration, state.activity.place


def _fate(heard: Heard) -> str:
    report = heard.report
    if report.farewell is not None:
        return f"{report}, has ended: {report.farewell}"
    return (
        f"{report}, gave no sign of life for {time.monotonic() - heard.at:.0f} s: it was killed or "
        "stopped, or its machine or the network is gone"
    )


def _delay(heard: Heard) -> str:
    if heard.report.farewell is not None:
        return _fate(heard)
    return f"{heard.report} since {heard.seconds():.0f} s"


def _tell(activity: Activity, text: str) -> None:
    """That this process gets no further, and where it is; unless that takes its time."""
    if activity.slow:
        logger.info("%s", text)
    else:
        logger.warning("%s. Where it is:\n%s", text, stacks())


def stacks() -> str:
    """Where all threads of this process are, but for the watchdog's own."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    mine = ("heartbeat", "watchdog")
    return "\n".join(
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if names.get(ident) not in mine
    )


def _exit(reason: str) -> None:
    """Ends this process whatever its main thread is in, and its loader's workers."""
    last = threading.Timer(10, os._exit, (RANK_LOST,))  # should even the log hang
    last.daemon = True
    last.start()
    logger.error("%s. %s", reason, _ENDS)
    for worker in multiprocessing.active_children():
        worker.kill()
    logging.shutdown()
    os._exit(RANK_LOST)
