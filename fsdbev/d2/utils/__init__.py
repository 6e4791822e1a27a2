"""``detectron2.utils``, or its built-in replacement."""
