"""Checkpoints: written atomically, read safely, loaded with a report of what did not fit."""

from .checkpointer import TrainingCheckpointer
from .files import atomic_writer, read_checkpoint, write_checkpoint
from .weights import LoadReport, load_weights

__all__ = [
    "LoadReport",
    "TrainingCheckpointer",
    "atomic_writer",
    "load_weights",
    "read_checkpoint",
    "write_checkpoint",
]
