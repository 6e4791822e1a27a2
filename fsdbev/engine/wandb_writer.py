"""Scalars of a training to Weights & Biases, where that is installed and asked for."""

from __future__ import annotations

import importlib
import os
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fsdbev.d2.utils.events import EventWriter, get_event_storage

#: Holds the run's identifier in the output folder, so that a resumed training goes on with it.
RUN_FILE = "wandb_run.txt"


def wants_wandb(train: DictConfig) -> bool:
    """Whether ``train.wandb`` asks for it.

    Raises:
        ValueError: it does, and wandb is not installed.
    """
    options = train.get("wandb") or {}
    if not options.get("enabled", False):
        return False
    _wandb()
    return True


def _wandb() -> ModuleType:
    try:
        module = importlib.import_module("wandb")
    except ImportError:
        module = None
    # Without the package, a folder of that name in the working directory, which runs leave behind,
    # can be imported too.
    if not hasattr(module, "init"):
        raise ValueError(
            "train.wandb.enabled is set, but wandb is not installed: pip install wandb, or set "
            "train.wandb.enabled=False"
        )
    return module


class WandbWriter(EventWriter):
    """Logs what is new in the event storage to one run of Weights & Biases an output folder.

    The run begins with the first scalars; its config is the folder's ``config.yaml``.
    """

    def __init__(
        self, output_dir: str, *, project: str, name: str, mode: str, window_size: int = 20
    ) -> None:
        """
        Args:
            output_dir: holds wandb's own files as well.
            project: in Weights & Biases.
            name: of the run; "": that of the output folder.
            mode: ``online``, ``offline`` (``wandb sync`` sends it later) or ``disabled``.
            window_size: iterations over which smoothed scalars are a median.
        """
        self._folder = Path(output_dir)
        self._options = {
            "project": project,
            "name": name or self._folder.resolve().name,
            "mode": mode,
        }
        self._window_size = window_size
        self._last_write = -1

    @cached_property
    def _run(self) -> Any:
        file, config = self._folder / RUN_FILE, self._folder / "config.yaml"
        known = file.read_text().strip() if file.is_file() else None
        run = _wandb().init(
            dir=os.fspath(self._folder),
            config=OmegaConf.to_container(OmegaConf.load(config)) if config.is_file() else {},
            id=known,
            resume="allow",
            **self._options,
        )
        file.write_text(f"{run.id}\n")
        return run

    def write(self) -> None:
        lines: dict[int, dict[str, float]] = defaultdict(dict)
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in latest.items():
            if iteration > self._last_write:
                lines[iteration][name] = value
        for iteration in sorted(lines):
            self._run.log(lines[iteration], step=iteration)
        self._last_write = max([self._last_write, *lines])

    def close(self) -> None:
        if "_run" in self.__dict__:
            self._run.finish()
