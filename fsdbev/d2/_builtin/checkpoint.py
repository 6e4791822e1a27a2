"""Built-in side of ``detectron2.checkpoint``: fvcore's checkpointer, safe to read."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer

from . import comm
from .file_io import PathManager


class DetectionCheckpointer(Checkpointer):
    """fvcore's ``Checkpointer`` that writes on the main process only and reads tensors only."""

    def __init__(
        self,
        model: torch.nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        if save_to_disk is None:
            save_to_disk = comm.is_main_process()
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.path_manager = PathManager

    def _load_file(self, filename: str) -> dict[str, Any]:
        loaded = torch.load(filename, map_location="cpu", weights_only=True)
        return loaded if "model" in loaded else {"model": loaded}
