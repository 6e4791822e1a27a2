"""Ablation row "FSD + PCI + MSFE": the complete model (published: 40.3 mAP, 52.6 NDS)."""

from ..fsdbev_r50_cbgs import dataloader, lr_multiplier, model, optimizer, train
