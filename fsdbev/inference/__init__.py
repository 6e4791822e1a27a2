"""Inference with a trained model: predictor, streaming, diagnostics of a sample."""

from .diagnostics import diagnose
from .predictor import Predictor, load_model
from .streaming import StreamingPredictor

__all__ = ["Predictor", "StreamingPredictor", "diagnose", "load_model"]
