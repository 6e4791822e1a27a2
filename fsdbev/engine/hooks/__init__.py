"""The trainer's hooks beside Detectron2's own: checkpoints, curves, seeds, EMA, preemption."""
