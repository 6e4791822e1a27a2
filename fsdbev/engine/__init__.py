"""Training and evaluation of what a LazyConfig describes."""

from .beliefs import believe
from .config import load_config
from .ema import ModelEMA
from .evaluation import evaluate
from .main import run
from .predictor import Predictor
from .streaming import StreamingPredictor
from .trainer import Trainer

__all__ = [
    "ModelEMA",
    "Predictor",
    "StreamingPredictor",
    "Trainer",
    "believe",
    "evaluate",
    "load_config",
    "run",
]
