"""FSD-BEV at small size for the synthetic data set, with the paper's cell size and BEV rotation.

A training takes about an hour on a CPU.
"""

from .fsdbev_tiny_synthetic import dataloader, lr_multiplier, model, optimizer, train

model.grid.x_range = model.grid.y_range = [-38.4, 38.4]
model.grid.cell = 0.8
model.backbone.width = 32
model.neck.out_channels = 64
model.depth_net.mid_channels = 64
model.depth_net.context_channels = 32
model.depth_net.aspp_channels = 32
model.bev_encoder.out_channels = 64
model.head.shared_channels = 32
model.head.branch_channels = 32
model.depth_net.dropout = 0.1

dataloader.image_size = [128, 352]
dataloader.image_aug.merge_with(dict(scale=[0.85, 1.15], flip_prob=0.5))
dataloader.bev_aug.merge_with(dict(scale=[0.95, 1.05], max_rotation=22.5, flip_prob=0.5))

train.init_checkpoint = ""  # the released backbone is narrower
train.max_iter = 2000
train.ema.decay = 0.998
