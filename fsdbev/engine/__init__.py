"""Training and evaluation of what a LazyConfig describes."""

from .ema import ModelEMA
from .evaluation import evaluate
from .launch import launch
from .main import main, run
from .trainer import Trainer

__all__ = ["ModelEMA", "Trainer", "evaluate", "launch", "main", "run"]
