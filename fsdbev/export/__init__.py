"""Export of models to files that run without this package: AOTInductor packages and ONNX."""

from .comparison import TOLERANCE
from .formats import FORMATS
from .package import export_model

__all__ = ["FORMATS", "TOLERANCE", "export_model"]
