"""Built-in ``detectron2.utils.logger``: loggers for the console and for files."""

from __future__ import annotations

import functools
import logging
import os
import sys

from termcolor import colored

_DATE = "%m/%d %H:%M:%S"
_COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class _ConsoleFormatter(logging.Formatter):
    """Formatter of console lines; adds the level to warnings and errors.

    Args:
        color: whether prefix and level have ANSI colours.
    """

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._paint = colored if color else lambda text, *_, **__: text

    def format(self, record: logging.LogRecord) -> str:
        where = f"[{self.formatTime(record, _DATE)} {record.name}]:"
        level = ""
        if record.levelno in _COLORS:
            level = self._paint(record.levelname, _COLORS[record.levelno], attrs=["bold"]) + " "
        return f"{self._paint(where, 'green')} {level}{super().format(record)}"


@functools.cache
def _file_handler(path: str) -> logging.Handler:
    """Returns the handler of a log file."""
    # Cached: two handlers of one file would overwrite each other's lines.
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(
        logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt=_DATE)
    )
    return handler


@functools.cache
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "fsdbev",
) -> logging.Logger:
    """Sets up a logger: all levels, to the console on rank 0 and to a file on every rank.

    A second call with the same arguments changes nothing, as in Detectron2.

    Args:
        output: a ``.txt`` or ``.log`` file, or a folder for ``log.txt``; ranks above 0 append
            ``.rank<r>`` to the name. With None no file is written.
        distributed_rank: rank of this process.
        color: whether the console lines have ANSI colours.
        name: name of the logger; its children log through it.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    # A handler of the root logger would write every line a second time.
    logger.propagate = False
    if distributed_rank == 0:
        console = logging.StreamHandler(sys.stdout)
        console.setFormatter(_ConsoleFormatter(color=color))
        logger.addHandler(console)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        path += f".rank{distributed_rank}" if distributed_rank > 0 else ""
        logger.addHandler(_file_handler(os.path.abspath(path)))
    return logger
