"""BEVDet, ResNet-50, 256x704, BEV 128x128, one frame, CBGS."""

from .bevdet4d_r50_cbgs import dataloader, lr_multiplier, model, optimizer, train

model.name = "BEVDet"
model.num_frames = 1
model.temporal_stage = None
# A single frame contains little information on velocity.
model.head.velocity_weight = 0.2
