"""Helpers that the command lines of all tools share.

Importing this module adds the project's root to ``sys.path``, so that the tools run without an
installation. A tool imports it before any module of ``fsdbev``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

#: Exit status after Ctrl-C: 128 + SIGINT, as in a shell.
_INTERRUPTED = 130


def tool_parser(description: str, **options) -> argparse.ArgumentParser:
    """Returns a parser whose ``--help`` shows the tool's docstring without wrapping its lines."""
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=raw, **options)


def exit_status(
    run: Callable[[argparse.Namespace], int | None],
    args: argparse.Namespace,
    *,
    interrupted: str = "interrupted",
) -> int:
    """Runs a tool and converts its result to an exit status.

    Args:
        run: the tool; returns an exit status, or None for 0.
        args: its parsed arguments.
        interrupted: text to print after Ctrl-C.

    Returns:
        The status that ``run`` returns, 1 after an OSError or ValueError, or 130 after Ctrl-C.
    """
    try:
        return run(args) or 0
    # Wrong files and values end with one line; any other error is a bug and keeps its traceback.
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return _INTERRUPTED


def interrupt_on_signals() -> None:
    """Makes SIGTERM and SIGHUP (end of the terminal) raise KeyboardInterrupt, as Ctrl-C does."""
    # Ignored signals stay ignored: nohup ignores SIGHUP.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def cpu_count() -> int:
    """Returns the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
