"""Checkpoints: atomic writing, safe reading, and loading with a report of mismatches."""

from .checkpointer import TrainingCheckpointer
from .convert import Form, form_of, to_half, to_our_names, to_release_names
from .files import check_archive, check_ending, read_checkpoint, write_checkpoint, write_weights
from .foreign import extract_weights
from .settings import ModelSettings
from .weights import LoadReport, SavedWeights, compare, load_weights, read_weights

__all__ = [
    "Form",
    "LoadReport",
    "ModelSettings",
    "SavedWeights",
    "TrainingCheckpointer",
    "check_archive",
    "check_ending",
    "compare",
    "extract_weights",
    "form_of",
    "load_weights",
    "read_checkpoint",
    "read_weights",
    "to_half",
    "to_our_names",
    "to_release_names",
    "write_checkpoint",
    "write_weights",
]
