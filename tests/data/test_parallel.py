"""Rows distributed over processes: all results, errors unchanged, no process left."""

import functools
import math
import operator
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fsdbev.data.parallel import map_rows

ROOT = Path(__file__).parents[2]
# New processes must be able to import the function: here functions of the standard library, which
# ``functools.partial`` turns into functions of a row.
FACTORIAL = (functools.partial, (math.factorial,))


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize(("rows", "workers"), [(0, 2), (1, 0), (37, 0), (37, 2)])
def test_every_row_has_its_result(rows, workers):
    found = list(map_rows(*FACTORIAL, rows, workers))
    assert sorted(found) == [math.factorial(row) for row in range(rows)]


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("function", "error"),
    [(functools.partial(operator.truediv, 1), ZeroDivisionError), (1, TypeError)],
    ids=["of a row", "of the start"],
)
def test_errors_are_raised(workers, function, error):
    with pytest.raises(error):
        list(map_rows(functools.partial, (function,), 1000, workers))


def test_killed_worker_is_an_error():
    with pytest.raises(ChildProcessError, match="a worker process was killed.*--workers"):
        list(map_rows(functools.partial, (os._exit,), 3, 1))


@pytest.mark.usefixtures("no_process_left")
def test_closed_early():
    results = map_rows(*FACTORIAL, 1000, 1)
    next(results)
    results.close()


def test_workers_end_with_their_parent():
    """The workers print row numbers; their output ends early, when the last of them has ended."""
    code = (
        "import functools\n"
        "from fsdbev.data.parallel import map_rows\n"
        "start = functools.partial(functools.partial, print, flush=True)\n"
        "list(map_rows(start, (), 100_000, 1))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout.readline().strip().isdigit()
        parent.send_signal(signal.SIGKILL)
        output, _ = parent.communicate(timeout=15)
    assert output.count(b"\n") < 99_000
