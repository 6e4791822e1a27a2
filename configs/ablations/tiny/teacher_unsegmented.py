"""The teacher of row "FSD" alone, at tiny size, pooling all pixels, not foreground alone."""

from ..rows import teacher_alone
from .fsd_unsegmented import dataloader, lr_multiplier, model, optimizer, train

teacher_alone(model, dataloader)
