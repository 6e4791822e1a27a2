"""Ablation row "FSD + PCI" at tiny size, on the synthetic data set: without MSFE."""

from ...fsdbev_tiny_synthetic import dataloader, lr_multiplier, model, optimizer, train
from ..rows import without_msfe

without_msfe(model)
