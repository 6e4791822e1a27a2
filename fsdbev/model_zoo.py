"""Access to this project's configs from other projects, such as plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsdbev.d2.config import LazyConfig

#: Folder next to the package in a clone, which ``pip install -e`` uses in place; wheels do not
#: contain it.
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def get_config(path: str, keys: tuple[str, ...] | None = None) -> Any:
    """Loads a file of ``configs/``, as in ``get_config("common/train.py").train``.

    Args:
        path: path relative to ``configs/``.
        keys: names of values to return as a tuple; None returns a DictConfig of all values.

    Raises:
        FileNotFoundError: the file does not exist, or the package was installed from a wheel.
    """
    file = CONFIGS / path
    if not file.is_file():
        known = sorted(str(f.relative_to(CONFIGS)) for f in CONFIGS.glob("**/*.py"))
        raise FileNotFoundError(
            f"there is no config {path!r}; {CONFIGS} has {', '.join(known)}"
            if known
            else f"there are no configs in {CONFIGS}: install from a clone with pip install -e"
        )
    return LazyConfig.load(str(file), keys)
