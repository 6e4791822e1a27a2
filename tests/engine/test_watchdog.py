"""The watchdog by itself: rank 0 is this process, rank 1 is made up."""

import json
import logging
import threading
import time
from dataclasses import asdict
from datetime import timedelta

import pytest
import torch.distributed as dist

from fsdbev.d2.config import LazyConfig
from fsdbev.engine.watchdog import Activity, Patience, WatchedLoader, doing, during
from fsdbev.engine.watchdog import watchdog as module
from fsdbev.engine.watchdog.activity import now
from fsdbev.engine.watchdog.exchange import Exchange, Report

QUICK = Patience(timeout_minutes=10, lost_after=1.2, stuck_after=0.6)


def eventually(condition, seconds=60):
    """Waits until something is so, far longer than it takes."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
    return result


class OtherRank:
    """Rank 1, as rank 0 hears of it."""

    def __init__(self, port):
        self._store = dist.TCPStore(
            "127.0.0.1", port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=9)
        )
        self._beat = 0
        self._thread = None
        self._silent = threading.Event()
        self.tell(Activity.STARTING)

    def tell(self, activity, iteration=0, seconds=0.0, **farewell):
        self._beat += 1
        report = Report(1, "elsewhere", 99, self._beat, iteration, activity.name, seconds)
        self._store.set("1", json.dumps(asdict(report) | farewell))

    def keep_telling(self, activity, iteration=0):
        """Heartbeats, always of the same."""
        start = time.monotonic()

        def run():
            while not self._silent.wait(0.05):
                self.tell(activity, iteration, time.monotonic() - start)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def fall_silent(self):
        self._silent.set()
        if self._thread is not None:
            self._thread.join()


@pytest.fixture
def logged():
    """What the watchdog logs: (level, text)."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append((record.levelname, record.getMessage()))

    logger, handler = logging.getLogger("fsdbev.engine.watchdog"), Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)


def find(logged, *words):
    """The first record with all the words."""
    return next((r for r in list(logged) if all(word in r[1] for word in words)), None)


@pytest.fixture
def ended(monkeypatch):
    """Reasons why this process would have ended itself."""
    reasons = []
    monkeypatch.setattr(module, "_exit", reasons.append)
    return reasons


@pytest.fixture
def start(ended):
    """Starts the watchdog of rank 0; returns it and rank 1."""
    running = []

    def start(patience=QUICK):
        beat = {"heartbeat": patience.heartbeat, "patience": patience.lost_after}
        exchange = Exchange("127.0.0.1", 0, rank=0, world_size=2, **beat)
        other = OtherRank(exchange.port)
        exchange.begin()
        watchdog = module.Watchdog(patience, exchange)
        running.append((watchdog, other))
        return watchdog, other

    yield start
    for watchdog, other in running:
        other.fall_silent()
        watchdog.end("done")


def test_rank_without_a_sign_of_life_is_named_and_the_job_ends(start, ended):
    doing(Activity.BACKWARD, 7)
    _, other = start()
    other.keep_telling(Activity.LOADING, 7)
    eventually(lambda: other._beat > 40)  # more than two seconds: as long as it tells, all is well
    assert not ended
    other.fall_silent()
    reason = eventually(lambda: ended)[0]
    assert "rank 1 (host elsewhere, pid 99), last loading data at iteration 7" in reason
    assert "no sign of life" in reason


def test_rank_that_reads_large_files_may_be_silent_for_longer(start, ended):
    doing(Activity.BETWEEN, 7)
    _, other = start()
    told = time.monotonic()
    other.tell(Activity.SCORING, 7)
    eventually(lambda: ended)
    assert time.monotonic() - told > 2 * QUICK.lost_after


def test_rank_that_ended_well_is_not_lost(start, ended, logged):
    doing(Activity.SCORING, 7)
    _, other = start()
    other.tell(Activity.BETWEEN, farewell="done")
    time.sleep(2 * QUICK.lost_after)
    assert not ended and not [r for r in logged if r[0] in ("WARNING", "ERROR")]


def test_rank_that_ended_with_an_error_is_named_and_who_waits_for_it_ends(start, ended, logged):
    doing(Activity.SAVING, 7)
    _, other = start()
    other.tell(Activity.FORWARD, 7, farewell="FloatingPointError: loss is nan", failed=True)
    level, text = eventually(lambda: find(logged, "rank 1", "has ended: FloatingPointError"))
    assert level == "ERROR"
    time.sleep(2 * QUICK.lost_after)
    assert not ended  # what it does needs nobody else
    doing(Activity.BETWEEN)
    assert "rank 1" in eventually(lambda: ended)[0]


def test_rank_that_gets_no_further_is_named_by_who_waits_for_it(start, ended, logged):
    doing(Activity.BACKWARD, 7)
    _, other = start()
    other.keep_telling(Activity.LOADING, 7)
    level, text = eventually(lambda: find(logged, "waits for rank 1"))
    assert level == "WARNING"
    assert "in the backward pass" in text and "last loading data at iteration 7 since" in text
    assert not ended


def test_rank_behind_in_the_order_is_named_where_all_wait(start, logged):
    doing(Activity.EXCHANGING, 7)
    _, other = start()
    other.keep_telling(Activity.BACKWARD, 7)
    eventually(lambda: find(logged, "waits for rank 1", "in the backward pass at iteration 7"))


def test_all_at_the_same_place_show_where_they_are(start, logged):
    doing(Activity.BACKWARD, 7)
    _, other = start()
    other.keep_telling(Activity.BACKWARD, 7)
    _, text = eventually(lambda: find(logged, "This process and all others are in the backward"))
    assert "Thread MainThread" in text and "test_watchdog.py" in text


def test_slow_work_is_told_but_not_called_stuck(start, logged):
    doing(Activity.BETWEEN, 7)
    _, other = start()
    other.keep_telling(Activity.SCORING, 7)
    level, _ = eventually(lambda: find(logged, "waits for rank 1", "scoring"))
    assert level == "INFO"


def test_who_has_not_arrived_is_named_before_a_collective_times_out(start, ended, logged):
    doing(Activity.EXCHANGING, 7)
    patience = Patience(timeout_minutes=1 / 60, lost_after=1.2, stuck_after=100)
    _, other = start(patience)
    other.keep_telling(Activity.FORWARD, 6)
    level, text = eventually(lambda: find(logged, "Not arrived: rank 1", "forward pass"))
    assert level == "ERROR" and "train.distributed.timeout_minutes" in text
    eventually(lambda: ended)  # should the backend wait longer


def test_one_process_that_gets_no_further_logs_where_it_is(ended, logged):
    doing(Activity.LOADING, 3)
    watchdog = module.Watchdog(QUICK, None)
    level, text = eventually(lambda: find(logged, "has been loading data", "at iteration 3"))
    assert level == "WARNING" and "Thread MainThread" in text and "eventually" in text
    assert "heartbeat" not in text
    eventually(lambda: len([r for r in logged if "has been loading data" in r[1]]) > 1)
    watchdog.end("done")


def test_error_that_comes_of_another_rank_names_it(start, logged):
    doing(Activity.BACKWARD, 7)
    watchdog, other = start()
    other.tell(Activity.FORWARD, 7, farewell="ValueError: no such sample", failed=True)
    assert watchdog.blames_another(RuntimeError("connection closed by peer"))
    assert find(logged, "rank 1", "no such sample", "connection closed by peer")


def test_error_of_its_own_blames_nobody(start):
    doing(Activity.BACKWARD, 7)
    watchdog, other = start()
    other.keep_telling(Activity.BACKWARD, 7)
    assert not watchdog.blames_another(RuntimeError("out of memory"))
    assert not watchdog.blames_another(ValueError("wrong"))


def test_what_the_store_holds_cannot_end_the_exchange(start, ended):
    doing(Activity.LOADING, 7)
    watchdog, other = start()
    for value in ("", "no json", "[1]", '{"rank": 1}'):
        other._store.set("1", value)
        time.sleep(0.2)
    other.keep_telling(Activity.LOADING, 8)
    eventually(lambda: watchdog._exchange.heard[1].report.iteration == 8)


def test_a_rank_that_cannot_reach_the_store_names_rank_0(ended, logged):
    """Rank 1 is this process here."""
    doing(Activity.BACKWARD, 7)
    beat = {"heartbeat": QUICK.heartbeat, "patience": QUICK.lost_after}
    server = Exchange("127.0.0.1", 0, rank=0, world_size=2, **beat)
    exchange = Exchange("127.0.0.1", server.port, rank=1, world_size=2, **beat)
    exchange.begin()
    server.begin()
    watchdog = module.Watchdog(QUICK, exchange)
    server.close()
    del server._store
    assert "rank 0" in eventually(lambda: ended)[0]
    watchdog.end("done")


def test_a_rank_that_ends_does_not_wait_for_a_store_that_is_gone():
    """Both were asked to stop; rank 0 knew that rank 1, here, was ready, and was the quicker."""
    beat = {"heartbeat": QUICK.heartbeat, "patience": QUICK.lost_after}
    server = Exchange("127.0.0.1", 0, rank=0, world_size=2, **beat)
    exchange = Exchange("127.0.0.1", server.port, rank=1, world_size=2, **beat)
    exchange.begin()
    server.begin()
    exchange.say_farewell("status 75", failed=False)
    server.close()
    del server._store
    ending = threading.Thread(
        target=exchange.wait_for_others, args=(600,), kwargs={"to_end": True}, daemon=True
    )
    ending.start()
    ending.join(timeout=30)
    assert not ending.is_alive() and exchange.close()


def test_loader_of_an_evaluation_tells_what_is_done():
    seen = []
    doing(Activity.BETWEEN)
    with during(Activity.SCORING):
        loader = WatchedLoader(iter([1, 2]))
        for _ in loader:
            seen.append(now().activity)
        seen.append(now().activity)
    assert seen == [Activity.EVALUATING, Activity.EVALUATING, Activity.SCORING]
    assert now().activity is Activity.BETWEEN
    assert len(WatchedLoader([1, 2, 3])) == 3


def test_settings_are_those_of_the_config():
    from pathlib import Path

    root = Path(__file__).parents[2]
    train = LazyConfig.load(str(root / "configs" / "common" / "train.py")).train
    assert Patience(**train.distributed) == Patience()


@pytest.mark.parametrize("name", ["timeout_minutes", "lost_after", "stuck_after"])
def test_settings_must_be_positive(name):
    with pytest.raises(ValueError, match=f"train.distributed.{name} is 0: it must be positive"):
        Patience(**{name: 0})
