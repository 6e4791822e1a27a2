"""Training and evaluation of models that are described by a LazyConfig."""

from .ema import ModelEMA
from .evaluate_model import evaluate
from .main import run
from .trainer import Trainer

__all__ = ["ModelEMA", "Trainer", "evaluate", "run"]
