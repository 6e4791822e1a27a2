"""Training and evaluation of what a LazyConfig describes."""

from .ema import ModelEMA
from .evaluation import evaluate
from .main import run
from .streaming import StreamingPredictor
from .trainer import Trainer

__all__ = ["ModelEMA", "StreamingPredictor", "Trainer", "evaluate", "run"]
