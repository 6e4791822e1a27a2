"""The teacher alone without foreground segmentation, at tiny size."""

from ..rows import teacher_alone
from .fsd_unsegmented import dataloader, lr_multiplier, model, optimizer, train

teacher_alone(model, dataloader)
