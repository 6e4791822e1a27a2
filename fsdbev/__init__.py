"""FSD-BEV: multi-view 3D object detection with foreground self-distillation, on Detectron2."""

__version__ = "0.1.0"
