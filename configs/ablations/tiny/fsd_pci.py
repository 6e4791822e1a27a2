"""The ablation's row FSD + PCI at tiny size, for the synthetic data set: without MSFE."""

from ...fsdbev_tiny_synthetic import dataloader, lr_multiplier, model, optimizer, train
from ..rows import without_msfe

without_msfe(model)
