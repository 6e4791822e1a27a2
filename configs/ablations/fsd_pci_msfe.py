"""The paper's ablation, FSD + PCI + MSFE: the whole model (40.3 mAP, 52.6 NDS published)."""

from ..fsdbev_r50_cbgs import dataloader, lr_multiplier, model, optimizer, train
