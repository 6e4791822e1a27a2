"""What the processes of a job tell each other of themselves, beside their collectives.

Each has a connection of its own to a key-value store in the process of rank 0, and a thread that
uses it, so it works with any backend, and while the main thread sits in a collective.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial

import torch.distributed as dist

from fsdbev.d2.utils import comm

from .activity import Activity, now

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What a rank says of itself.

    Attributes:
        beat: grows with every report.
        activity: name of an ``Activity``.
        seconds: how long it has been doing that.
        farewell: how it ended; None as long as it goes on.
        failed: it ended with an error.
    """

    rank: int
    host: str
    pid: int
    beat: int
    iteration: int
    activity: str
    seconds: float
    farewell: str | None = None
    failed: bool = False

    def __str__(self) -> str:
        what = f"{Activity[self.activity].text} at iteration {self.iteration}"
        return f"rank {self.rank} (host {self.host}, pid {self.pid}), last {what}"


@dataclass(frozen=True)
class Heard:
    """A rank's last report, and the second of ``time.monotonic`` when it was new here."""

    report: Report
    at: float

    def seconds(self) -> float:
        """How long the rank has been doing what it said."""
        return self.report.seconds + time.monotonic() - self.at

    @property
    def activity(self) -> Activity:
        return Activity[self.report.activity]


class Exchange:
    """Tells the other ranks of this one every ``heartbeat`` seconds, and hears of them.

    Args:
        host, port: where all ranks find the store, which rank 0 opens; with port 0, at one of the
            system's choice.
        heartbeat: seconds.
        patience: seconds that one call of the store may take.

    Attributes:
        heard: the last that was heard of each rank, this one too.
        last: second of ``time.monotonic`` when the store last answered.
    """

    def __init__(
        self, host: str, port: int, *, rank: int, world_size: int, heartbeat: float, patience: float
    ) -> None:
        self.rank = rank
        self._heartbeat = heartbeat
        self._timeout = timedelta(seconds=patience)
        self._host, self._port = host, port
        self._keys = [str(rank) for rank in range(world_size)]
        self._beat = 0
        self._farewell: str | None = None
        self._failed = False
        self._wake, self._said, self._closed = (threading.Event() for _ in range(3))
        self.heard: dict[int, Heard] = {}
        self.last = time.monotonic()
        self._store = self._connect()
        self._tell()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @classmethod
    def among_all(cls, host: str, heartbeat: float, patience: float) -> Exchange:
        """That of this process, begun; all ranks of ``torch.distributed`` call it together."""
        rank, world_size = comm.get_rank(), comm.get_world_size()
        make = partial(
            cls, host, rank=rank, world_size=world_size, heartbeat=heartbeat, patience=patience
        )
        exchange = make(port=0) if rank == 0 else None
        port = comm.all_gather(exchange and exchange.port)[0]
        exchange = exchange or make(port=port)
        comm.synchronize()  # every rank has told of itself once
        exchange.begin()
        return exchange

    @property
    def port(self) -> int:
        """Of the store."""
        return self._store.port

    def begin(self) -> None:
        """Starts the thread. Every rank has its exchange."""
        self._hear()
        self._thread.start()

    def _connect(self) -> dist.TCPStore:
        return dist.TCPStore(
            self._host,
            self._port,
            is_master=self.rank == 0,
            wait_for_workers=False,
            timeout=self._timeout,
        )

    def others(self) -> list[Heard]:
        """The last that was heard of each other rank."""
        heard = dict(self.heard)
        return [heard[rank] for rank in sorted(heard) if rank != self.rank]

    def say_farewell(self, text: str, *, failed: bool) -> None:
        """Tells the others how this rank ended; waits for a moment until it is told."""
        self._farewell, self._failed = text, failed
        self._wake.set()
        self._said.wait(timeout=2 * self._heartbeat)

    def wait_for_others(self, seconds: float, *, to_end: bool) -> None:
        """Waits, not for ever, until the others have heard the farewell; or until they ended, or
        rank 0 is gone: then nothing is heard any more."""
        deadline = time.monotonic() + seconds
        first = {heard.report.rank: heard.report.beat for heard in self.others()}

        def is_open(report: Report) -> bool:
            knows = not to_end and report.beat >= first[report.rank] + 2
            return report.farewell is None and not knows

        while time.monotonic() < deadline and any(is_open(h.report) for h in self.others()):
            if not self._thread.is_alive():
                break
            time.sleep(min(0.1, self._heartbeat))

    def close(self) -> bool:
        """Ends the thread; in rank 0 the store ends with this object. False: it waits for a store
        that does not answer."""
        self._closed.set()
        self._wake.set()
        self._thread.join(timeout=2 + 2 * self._heartbeat)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed.is_set():
            ending = self._farewell is not None
            try:
                self._tell()
                if ending:
                    self._said.set()
                self._hear()
            except Exception as error:  # this thread must go on whatever comes from the network
                logger.debug("No exchange with rank 0 at %s: %s", self._host, error)
                if ending or self.heard[0].report.farewell is not None:  # the store went with it
                    break
                self._reconnect()
            self._wake.wait(self._heartbeat)
            self._wake.clear()
        self._said.set()

    def _reconnect(self) -> None:
        if self.rank == 0:
            return
        try:
            self._timeout = timedelta(seconds=1)  # so that the thread can be ended
            self._store = self._connect()
        except RuntimeError as error:
            logger.debug("Rank 0 at %s does not answer: %s", self._host, error)

    def _tell(self) -> None:
        self._beat += 1
        report = Report(
            rank=self.rank,
            host=socket.gethostname(),
            pid=os.getpid(),
            beat=self._beat,
            iteration=now().iteration,
            activity=now().activity.name,
            seconds=time.monotonic() - now().since,
            farewell=self._farewell,
            failed=self._failed,
        )
        self._store.set(str(self.rank), json.dumps(asdict(report)))

    def _hear(self) -> None:
        values = self._store.multi_get(self._keys)
        self.last = at = time.monotonic()
        for rank, value in enumerate(values):
            report = Report(**json.loads(value))
            known = self.heard.get(rank)
            if known is None or known.report.beat != report.beat:
                self.heard[rank] = Heard(report, at)
