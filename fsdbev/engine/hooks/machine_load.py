"""Hook that says when other programs on the machine explain slow iterations."""

from __future__ import annotations

import logging
import math
import os
import time

from fsdbev.d2.engine import HookBase

logger = logging.getLogger(__name__)

#: Least load per core, and time of an iteration divided by that of the fastest one.
_BUSY, _SLOW = 1.5, 3.0
#: Least time (s) between two warnings.
_PERIOD = 600.0


class MachineLoad(HookBase):
    """Hook that warns of a busy machine: before the training, and after slow iterations.

    Threads of a CPU operation wait for each other actively: beside another program, for most of
    the time one waits for another that has no core.
    """

    def __init__(self) -> None:
        self._fastest = math.inf
        self._next_warning = 0.0

    def before_train(self) -> None:
        self._warn_if_busy("Iterations may be slow")

    def before_step(self) -> None:
        self._start = time.perf_counter()

    def after_step(self) -> None:
        seconds = time.perf_counter() - self._start
        self._fastest = min(self._fastest, seconds)
        if seconds > _SLOW * self._fastest:
            self._warn_if_busy(
                f"Iteration {self.trainer.iter} took {seconds:.1f} s, the fastest one "
                f"{self._fastest:.1f} s"
            )

    def _warn_if_busy(self, finding: str) -> None:
        """Warns if the load is high, once in a period; Windows has no load average."""
        load, cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
        if load >= _BUSY * cores and time.monotonic() >= self._next_warning:
            self._next_warning = time.monotonic() + _PERIOD
            logger.warning(
                "%s: the load of this machine is %.1f on %d cores. If other programs run here, "
                "start the training with OMP_WAIT_POLICY=PASSIVE, and with fewer threads "
                "(OMP_NUM_THREADS) or loader workers",
                *(finding, load, cores),
            )
