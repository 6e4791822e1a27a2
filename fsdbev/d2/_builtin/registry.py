"""Built-in side of ``detectron2.utils.registry``: fvcore's registry."""

from fvcore.common.registry import Registry

__all__ = ["Registry"]
