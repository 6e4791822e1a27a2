"""FSD-BEV, ResNet-101, 512x1408, BEV 256x256, CBGS (published: 48.8 mAP, 58.9 NDS)."""

from .fsdbev_r50_cbgs_bev256 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.depth = 101
# The release slows the statistics of ResNet-101 (docs/model.md, "Image branch").
model.backbone.bn_momentum = 0.01
model.temporal_stage.bn_momentum = 0.01
model.depth_bins.step = 0.25
dataloader.image_size = [512, 1408]
