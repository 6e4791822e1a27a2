"""Event writer for Weights & Biases, an optional package."""

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

#: File in the output folder with the run's identifier. A resumed training continues that run.
RUN_FILE = "wandb_run.txt"


def is_wandb_enabled(train: DictConfig) -> bool:
    """Returns whether ``train.wandb`` is enabled.

    Args:
        train: the section ``train`` of a config.

    Raises:
        ValueError: it is enabled, but wandb is not installed.
    """
    options = train.get("wandb") or {}
    if not options.get("enabled", False):
        return False
    _import_wandb()
    return True


def _import_wandb() -> ModuleType:
    # The import is local because the package is optional.
    try:
        module = importlib.import_module("wandb")
    except ImportError:
        module = None
    # Runs leave a folder "wandb" in the working directory. Without the package, Python imports that
    # folder as a namespace package.
    if not hasattr(module, "init"):
        raise ValueError(
            "train.wandb.enabled is set, but wandb is not installed: pip install wandb, or set "
            "train.wandb.enabled=False"
        )
    return module


class WandbWriter(EventWriter):
    """Writer that logs new scalars of the event storage to Weights & Biases.

    Each output folder has one run. It starts with the first scalars, and its config is the folder's
    ``config.yaml``.
    """

    def __init__(
        self, output_dir: str, *, project: str, name: str, mode: str, window_size: int = 20
    ) -> None:
        """
        Args:
            output_dir: output folder of the training; wandb writes its own files there, too.
            project: project in Weights & Biases.
            name: name of the run; "": name of the output folder.
            mode: ``online``, ``offline`` (``wandb sync`` uploads it later) or ``disabled``.
            window_size: number of iterations over which the median of a smoothed scalar is taken.
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
        """The run, started at the first use."""
        file, config = self._folder / RUN_FILE, self._folder / "config.yaml"
        run_id = file.read_text().strip() if file.is_file() else None
        run = _import_wandb().init(
            dir=os.fspath(self._folder),
            config=OmegaConf.to_container(OmegaConf.load(config)) if config.is_file() else {},
            id=run_id,
            resume="allow",
            **self._options,
        )
        file.write_text(f"{run.id}\n")
        return run

    def write(self) -> None:
        """Logs the scalars that are newer than the last call, by iteration."""
        lines: dict[int, dict[str, float]] = defaultdict(dict)
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in latest.items():
            if iteration > self._last_write:
                lines[iteration][name] = value
        for iteration in sorted(lines):
            self._run.log(lines[iteration], step=iteration)
        self._last_write = max([self._last_write, *lines])

    def close(self) -> None:
        if "_run" in self.__dict__:  # a training that logged nothing has no run to finish
            self._run.finish()
