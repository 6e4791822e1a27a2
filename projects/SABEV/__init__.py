"""SA-BEV: a plugin, train.plugins=[projects.SABEV]."""

from .modeling import SABEV, CrossTaskHead, SemanticDepthNet

__all__ = ["SABEV", "CrossTaskHead", "SemanticDepthNet"]
