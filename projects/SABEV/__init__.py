"""SA-BEV. Enable with train.plugins=[projects.SABEV]."""

from .modeling import SABEV, CrossTaskHead, SemanticDepthNet

__all__ = ["SABEV", "CrossTaskHead", "SemanticDepthNet"]
