"""Names of ``detectron2.utils``."""
