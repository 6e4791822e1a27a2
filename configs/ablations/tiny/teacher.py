"""The teacher of row "FSD" alone, at tiny size: LiDAR depth in training and in evaluation."""

from ..rows import teacher_alone
from .fsd import dataloader, lr_multiplier, model, optimizer, train

teacher_alone(model, dataloader)
