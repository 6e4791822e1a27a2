"""Ablation row "baseline" at tiny size: the student without distillation."""

from ..rows import without_fsd
from .fsd import dataloader, lr_multiplier, model, optimizer, train

without_fsd(model)
