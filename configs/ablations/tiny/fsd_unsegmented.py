"""Ablation row "FSD" at tiny size: student and teacher pool all pixels, not foreground alone."""

from .fsd import dataloader, lr_multiplier, model, optimizer, train

model.view_transform.foreground_threshold = 0.0
