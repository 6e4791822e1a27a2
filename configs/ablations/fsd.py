"""Ablation row "FSD": labels only from the sweep's points (published: 39.4 mAP, 51.6 NDS)."""

from .fsd_pci import dataloader, lr_multiplier, model, optimizer, train
from .rows import without_pci

without_pci(dataloader)
