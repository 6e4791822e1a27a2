"""Ablation row "FSD" at tiny size: labels only from the sweep's points."""

from ..rows import without_pci
from .fsd_pci import dataloader, lr_multiplier, model, optimizer, train

without_pci(dataloader)
