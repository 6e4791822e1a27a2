"""Helpers that the command lines of all tools share.

Importing this module adds the project's root to ``sys.path``, so that the tools run without an
installation. A tool imports it before any module of ``fsdbev``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsdbev.structures import ClassSet

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

#: Exit status after Ctrl-C: 128 + SIGINT, as in a shell.
_INTERRUPTED = 130


def tool_parser(description: str, **options) -> argparse.ArgumentParser:
    """Returns a parser whose ``--help`` shows the tool's docstring without wrapping its lines."""
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=raw, **options)


def intermix_overrides(
    parser: argparse.ArgumentParser, args: argparse.Namespace, rest: Sequence[str]
) -> None:
    """Adds the overrides among the arguments that a subcommand's parser left over.

    argparse cannot intermix positional arguments with the options of a subcommand: overrides
    between or after the options are left over.

    Args:
        parser: the tool's parser, which exits with status 2 for any other argument.
        args: parsed arguments; ``overrides``, if the subcommand has any, is extended.
        rest: the arguments left over.
    """
    if hasattr(args, "overrides"):
        args.overrides += [text for text in rest if "=" in text and text[0] != "-"]
        rest = [text for text in rest if text not in args.overrides]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")


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
    from fsdbev.utils.plain_file import check_file_names

    try:
        check_file_names()
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


def camera_count(cfg: Any, given: int | None) -> int:
    """Returns the number of cameras of fake samples: the given one, or that of the config's
    ``dataloader.cameras``, or six as in nuScenes."""
    cameras = cfg.dataloader.get("cameras")
    return given if given is not None else len(cameras or range(6))


def read_classes(path: str) -> ClassSet:
    """Reads the classes of a file for ``--classes``.

    Args:
        path: a config, whose ``model.classes`` are read, or a YAML file with the arguments of
            :class:`fsdbev.structures.ClassSet`, alone or below ``classes``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has no classes, or they or the config are wrong.
    """
    from omegaconf import OmegaConf

    from fsdbev.config import load_config
    from fsdbev.d2.config import instantiate
    from fsdbev.structures import ClassSet

    cfg = load_config(path)
    places = ("model.classes", "classes")
    node = next(filter(None, (OmegaConf.select(cfg, place) for place in places)), cfg)
    if "_target_" not in node and "names" not in node:
        raise ValueError(
            f"{path}: has no classes: expected a config with model.classes, or a YAML file with "
            "names and further arguments of fsdbev.structures.ClassSet"
        )
    try:
        if "_target_" in node:
            return instantiate(node)
        return ClassSet.from_dict(OmegaConf.to_container(node, resolve=True), path)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def cpu_count() -> int:
    """Returns the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
