"""Built-in ``detectron2.checkpoint``: fvcore's checkpointer, which reads tensors only."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer

from . import comm
from .file_io import PathManager


class DetectionCheckpointer(Checkpointer):
    """fvcore's ``Checkpointer`` that saves on the main process and loads with ``weights_only``.

    Unlike Detectron2's, it converts no checkpoints of Caffe2 or Detectron.

    Args:
        model: model whose state is saved and loaded.
        save_dir: folder of the checkpoints.
        save_to_disk: whether this process writes files; by default only the main process does.
        checkpointables: further objects with ``state_dict`` and ``load_state_dict``, by the key
            under which a checkpoint stores them.
    """

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
        # Unpickling anything but tensors can run code of whoever made the file.
        loaded = torch.load(filename, map_location="cpu", weights_only=True)
        # A bare state dict, such as torchvision's weights, becomes the model of a checkpoint.
        return loaded if "model" in loaded else {"model": loaded}
