"""Memory, files and threads of this process and of those that it started.

Linux tells all of it in /proc. Elsewhere ``ps`` tells the resident memory alone.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
#: Parts of ``Usage.own`` in smaps_rollup, from Linux 5.14 on.
_OWN = ("Pss_Anon", "Pss_Shmem", "SwapPss")


@dataclass(frozen=True)
class Usage:
    """Of one process, or a sum over several. None: this system does not tell.

    Attributes:
        rss: resident bytes; what processes share counts in each of them.
        own: bytes that are no part of a file, swapped ones included, what n processes share counted
            as 1/n in each, so that these add up. Pages of libraries and data files would come and
            go with other programs that read them, and with the kernel's cache.
        uss: bytes that nobody shares.
        files: open ones.
        threads: running ones.
    """

    rss: int
    own: int | None
    uss: int | None
    files: int | None
    threads: int | None


def usage(pid: int) -> Usage:
    """Of a process that runs.

    Raises:
        OSError: there is no such process, or nothing here tells its memory.
    """
    rollup = _PROC / str(pid) / "smaps_rollup"
    if not rollup.exists():
        return Usage(_resident(pid), None, None, None, None)
    sizes = _kilobytes(rollup.read_text())
    status = _kilobytes((_PROC / str(pid) / "status").read_text())
    return Usage(
        1024 * sizes["Rss"],
        1024 * sum(sizes[name] for name in _OWN) if set(_OWN) <= set(sizes) else None,
        1024 * (sizes["Private_Clean"] + sizes["Private_Dirty"]),
        len(os.listdir(_PROC / str(pid) / "fd")),
        status["Threads"],
    )


def usage_of_all() -> tuple[Usage, list[Usage]]:
    """Of this process once its garbage is collected, and of each loader's worker that runs."""
    gc.collect()
    workers = multiprocessing.active_children()
    return usage(os.getpid()), [usage(worker.pid) for worker in workers]


_MALLOC_INFO = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _MallocInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [(name, ctypes.c_size_t) for name in _MALLOC_INFO.split()]


def allocated() -> int | None:
    """Bytes that this process has asked of malloc and not given back; None without glibc 2.33.

    What is resident also has gaps between these, which malloc keeps for what comes.
    """
    try:
        read = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    read.restype = _MallocInfo
    found = read()
    return found.uordblks + found.hblkhd


def total(parts: list[Usage], name: str) -> int | None:
    """Sum of an attribute over processes; None where it is not told."""
    values = [getattr(part, name) for part in parts]
    return None if None in values else sum(values)


def _resident(pid: int) -> int:
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OSError(f"neither {_PROC} nor ps tells the memory of process {pid}") from error
    return 1024 * int(done.stdout)


def _kilobytes(text: str) -> dict[str, int]:
    """Lines of ``Name: number``, with or without a unit."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    numbers = ((name, rest.split()) for name, rest in pairs)
    return {name: int(words[0]) for name, words in numbers if words and words[0].isdecimal()}
