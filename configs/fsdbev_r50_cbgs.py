"""FSD-BEV, ResNet-50, 256x704, BEV 128x128, CBGS, main setting (published: 40.3 mAP, 52.6 NDS)."""

from .common.data.nuscenes import dataloader
from .common.models.fsdbev_r50 import model
from .common.optim import AdamW as optimizer
from .common.schedule import constant as lr_multiplier
from .common.train import train

# 24 epochs at a total batch of 64. CBGS draws 123580 samples per epoch of nuScenes train
# (docs/model.md, "Training data").
train.max_iter = 24 * 123580 // 64
train.checkpointer.period = 123580 // 64
train.eval_period = 0
train.amp.enabled = True
