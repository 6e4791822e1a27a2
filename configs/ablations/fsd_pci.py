"""Ablation row "FSD + PCI": without MSFE (published: 40.0 mAP, 51.6 NDS)."""

from .fsd_pci_msfe import dataloader, lr_multiplier, model, optimizer, train
from .rows import without_msfe

without_msfe(model)
