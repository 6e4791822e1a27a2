"""FSD-BEV of the released weights ``zoo://fsdbev_street``: more than the tiny config, still small.

Its backbone and neck are those of the tiny configs. See MODEL_ZOO.md for data, time and results.
"""

from .fsdbev_tiny_synthetic import dataloader, lr_multiplier, model, optimizer, train

model.grid.x_range = model.grid.y_range = [-38.4, 38.4]
model.grid.cell = 0.8
model.depth_bins.stop = 53.0
model.depth_net.mid_channels = 64
model.depth_net.context_channels = 32
model.depth_net.aspp_channels = 32

dataloader.image_size = [176, 480]
dataloader.image_aug.merge_with(dict(scale=[0.95, 1.05], flip_prob=0.5))
dataloader.bev_aug.merge_with(dict(scale=[0.95, 1.05], max_rotation=5.0))
dataloader.train.total_batch_size = 1
optimizer.lr = 2e-3
lr_multiplier.warmup_iters = 200
train.max_iter = 6500
train.ema.decay = 0.998
