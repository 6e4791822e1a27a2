"""FSD-BEV, ResNet-50, 256x704, BEV 128x128, CBGS, main setting (40.3 mAP, 52.6 NDS published)."""

from .common.data.nuscenes import dataloader
from .common.models.fsdbev_r50 import model
from .common.optim import AdamW as optimizer
from .common.schedule import constant as lr_multiplier
from .common.train import train

# 24 epochs of CBGS's 123580 draws from nuScenes train, at a total batch of 64.
train.max_iter = 24 * 123580 // 64
train.checkpointer.period = 123580 // 64
train.eval_period = 0
train.amp.enabled = True
train.channels_last = True  # what convolutions in mixed precision compute in
