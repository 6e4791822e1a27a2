"""Training and evaluation of what a LazyConfig describes."""

from .ema import ModelEMA
from .evaluate import evaluate
from .main import run
from .trainer import Trainer

__all__ = ["ModelEMA", "Trainer", "evaluate", "run"]
