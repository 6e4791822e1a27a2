"""Built-in ``detectron2.modeling``: the registry of meta architectures."""

from fvcore.common.registry import Registry

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = "Registry of meta architectures, the complete models of a task."
