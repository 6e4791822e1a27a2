"""FSD-BEV small enough for a laptop's CPU: the quick start, minutes on the synthetic data set."""

from .common.data.synthetic import dataloader
from .common.models.fsdbev_r50 import model
from .common.optim import AdamW as optimizer
from .common.schedule import cosine as lr_multiplier
from .common.train import train

# The synthetic street is small: nearly nine in ten objects stand within 28 m.
model.grid.x_range = model.grid.y_range = [-28.0, 28.0]
model.grid.cell = 1.0
model.depth_bins.stop = 41.0
model.depth_bins.step = 1.0
model.backbone.depth = 18
model.backbone.width = 16
model.neck.out_channels = 32
model.depth_net.mid_channels = 32
model.depth_net.context_channels = 16
model.depth_net.aspp_channels = 16
model.bev_encoder.out_channels = 32
model.head.shared_channels = 16
model.head.branch_channels = 16
model.head.score_threshold = 0.03

dataloader.image_size = [112, 304]
# A few hundred steps have no time for strong augmentation or dropout.
model.depth_net.dropout = 0.0
model.bev_paste = None
dataloader.image_aug.scale = [0.95, 1.05]
dataloader.image_aug.max_rotation = 0.0
dataloader.bev_aug.max_rotation = 5.0
dataloader.train.class_balanced = False
dataloader.train.total_batch_size = 2
dataloader.train.num_workers = 1

optimizer.lr = 4e-3
lr_multiplier.warmup_iters = 50
train.max_iter = 700
train.channels_last = True
train.ema = dict(enabled=True, decay=0.99, warmup=20, start_updates=0)
train.checkpointer.period = 200
train.eval_period = 0
