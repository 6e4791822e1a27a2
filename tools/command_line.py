"""What the tools' command lines share. Its import makes the package importable from its source, for
use without installation: a tool imports it before anything of ``fsdbev``."""

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

#: Exit status after Ctrl-C, as of a shell's commands.
_INTERRUPTED = 130


def tool_parser(description: str, **options) -> argparse.ArgumentParser:
    """A parser whose ``--help`` shows the tool's docstring as it is written."""
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=raw, **options)


def exit_status(
    run: Callable[[argparse.Namespace], int | None],
    args: argparse.Namespace,
    *,
    interrupted: str = "interrupted",
) -> int:
    """Exit status of ``run(args)``: what it returns or 0; 1 after printing what is wrong with a
    file or value; 130 after Ctrl-C, with the text ``interrupted``."""
    try:
        return run(args) or 0
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return _INTERRUPTED


def interrupt_on_signals() -> None:
    """Makes SIGTERM and SIGHUP, the end of the terminal, do what Ctrl-C does. Signals that are
    ignored stay so: nohup ignores SIGHUP."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def cpu_count() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
