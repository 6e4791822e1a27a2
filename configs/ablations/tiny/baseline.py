"""The ablation's baseline at tiny size: the student alone."""

from ..rows import without_fsd
from .fsd import dataloader, lr_multiplier, model, optimizer, train

without_fsd(model)
