"""The teacher of row "FSD" alone, at tiny size: it pools by the depth of LiDAR points."""

from ..rows import teacher_alone
from .fsd import dataloader, lr_multiplier, model, optimizer, train

teacher_alone(model, dataloader)
