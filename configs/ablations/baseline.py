"""Ablation row "baseline": the student without distillation (published: 36.3 mAP, 48.6 NDS)."""

from .fsd import dataloader, lr_multiplier, model, optimizer, train
from .rows import without_fsd

without_fsd(model)
