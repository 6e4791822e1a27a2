"""FSD-BEV: multi-view 3D object detection with foreground self-distillation, on Detectron2.

This module is the public interface. Its names are imported at first use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fsdbev.utils.lazy_names import lazy_names

__version__ = "0.2.0"

# libgomp, the OpenMP of PyTorch's wheels for Linux, reads the variable when torch is loaded. Its
# threads wait for each other in a loop, by default for 300000 turns: beside other programs, cores
# spend their time on waiting for threads that have no core. After fewer turns, a thread sleeps.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")

if TYPE_CHECKING:
    from fsdbev.config import load_config
    from fsdbev.data.io.rig_file import read_rig
    from fsdbev.engine import evaluate
    from fsdbev.inference import Predictor
    from fsdbev.model_zoo import get_config
    from fsdbev.structures import Boxes3D, ClassSet, LabelledBoxes, Rig

__all__ = [
    "Boxes3D",
    "ClassSet",
    "LabelledBoxes",
    "Predictor",
    "Rig",
    "evaluate",
    "get_config",
    "load_config",
    "read_rig",
]

#: Public name -> module that defines it. Importing lazily keeps ``import fsdbev`` fast and free of
#: torch.
_HOMES = {
    "Boxes3D": "fsdbev.structures",
    "ClassSet": "fsdbev.structures",
    "LabelledBoxes": "fsdbev.structures",
    "Predictor": "fsdbev.inference",
    "Rig": "fsdbev.structures",
    "evaluate": "fsdbev.engine",
    "get_config": "fsdbev.model_zoo",
    "load_config": "fsdbev.config",
    "read_rig": "fsdbev.data.io.rig_file",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
