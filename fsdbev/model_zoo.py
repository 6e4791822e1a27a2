"""The configs of this project for who builds on them from elsewhere, as a plugin does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsdbev.d2.config import LazyConfig

#: ``configs/`` stands beside the package in a clone, and in what ``pip install -e`` points to.
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def get_config(path: str, keys: tuple[str, ...] | None = None) -> Any:
    """What a file of ``configs/`` defines, as in ``get_config("common/train.py").train``.

    Args:
        path: of the file, from ``configs/``.
        keys: names to return the values of, as a tuple; None for a DictConfig of all.

    Raises:
        FileNotFoundError: there is no such file; ``configs/`` comes with a clone, not with a wheel.
    """
    file = CONFIGS / path
    if not file.is_file():
        known = sorted(str(f.relative_to(CONFIGS)) for f in CONFIGS.glob("**/*.py"))
        raise FileNotFoundError(
            f"there is no config {path!r}; in {CONFIGS} there are {', '.join(known)}"
            if known
            else f"there are no configs in {CONFIGS}: install from a clone, by pip install -e"
        )
    return LazyConfig.load(str(file), keys)
