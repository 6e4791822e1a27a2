"""FSD-BEV at small size for the synthetic data set: finer cells and wider parts than at tiny size.

Its backbone and neck are those of the tiny config, so that it too starts from ``zoo://street``. A
training takes 52 minutes on two CPU cores (``--num-gpus 2``).
"""

from .fsdbev_tiny_synthetic import dataloader, lr_multiplier, model, optimizer, train

model.grid.x_range = model.grid.y_range = [-38.4, 38.4]
model.grid.cell = 0.8
model.depth_bins.stop = 53.0
model.depth_net.mid_channels = 64
model.depth_net.context_channels = 32
model.depth_net.aspp_channels = 32

dataloader.image_aug.merge_with(dict(scale=[0.95, 1.05], flip_prob=0.5))
dataloader.bev_aug.merge_with(dict(scale=[0.95, 1.05], max_rotation=5.0))
lr_multiplier.warmup_iters = 200
train.max_iter = 4000
train.ema.decay = 0.998
