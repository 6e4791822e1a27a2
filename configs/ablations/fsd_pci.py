"""The paper's ablation, FSD + PCI: without MSFE (40.0 mAP, 51.6 NDS published)."""

from .fsd_pci_msfe import dataloader, lr_multiplier, model, optimizer, train
from .rows import without_msfe

without_msfe(model)
