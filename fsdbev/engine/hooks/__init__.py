"""Trainer hooks in addition to Detectron2's: checkpoints, curves, seeds, EMA, preemption."""
