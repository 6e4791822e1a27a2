"""The ablation's row FSD at tiny size: labels of the sweep's own points."""

from ..rows import without_pci
from .fsd_pci import dataloader, lr_multiplier, model, optimizer, train

without_pci(dataloader)
