"""The paper's ablation, baseline: the student alone (36.3 mAP, 48.6 NDS published)."""

from .fsd import dataloader, lr_multiplier, model, optimizer, train
from .rows import without_fsd

without_fsd(model)
