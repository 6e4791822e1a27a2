"""Ablation row "FSD" at tiny size without foreground segmentation of student and teacher."""

from .fsd import dataloader, lr_multiplier, model, optimizer, train

model.view_transform.foreground_threshold = 0.0
