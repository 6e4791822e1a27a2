"""How command-line tools end, and how many processes they have room for."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable


def exit_status(run: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """``run(args)``: 0, or 1 after printing what is wrong with a file or value."""
    try:
        run(args)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def cpu_count() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
