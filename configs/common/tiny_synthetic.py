"""Tiny training on the synthetic data set, for minutes on a CPU: everything except the model.

``sizes`` and ``depth_net_sizes`` reduce a model to match.
"""

from .data.synthetic import dataloader
from .optim import AdamW as optimizer
from .schedule import cosine as lr_multiplier
from .train import train

# For any model: model.merge_with(sizes). The synthetic street is small: most objects are within
# 28 m (docs/comparison.md).
sizes = dict(
    grid=dict(x_range=[-28.0, 28.0], y_range=[-28.0, 28.0], cell=1.0),
    depth_bins=dict(stop=41.0, step=1.0),
    backbone=dict(depth=18, width=16),
    neck=dict(out_channels=32),
    depth_net=dict(context_channels=16),
    bev_encoder=dict(out_channels=32),
    head=dict(shared_channels=16, branch_channels=16, score_threshold=0.03),
)
# For a camera-aware depth network. So short a training has no use for dropout or strong
# augmentation.
depth_net_sizes = dict(mid_channels=32, aspp_channels=16, dropout=0.0)

dataloader.image_size = [144, 480]  # full width: keeps pedestrians and cones visible
# No augmentation: in five epochs it costs more than it gains. Above all, headings and speeds are
# not learnt if half of the images are mirrored: they show the front of a vehicle as its rear.
dataloader.image_aug.merge_with(dict(scale=[1.0, 1.0], max_rotation=0.0, flip_prob=0.0))
dataloader.bev_aug.merge_with(dict(scale=[1.0, 1.0], max_rotation=0.0, flip_prob=0.0))
dataloader.train.class_balanced = False
dataloader.train.total_batch_size = 2

optimizer.lr = 4e-3
lr_multiplier.warmup_iters = 50
train.init_checkpoint = "zoo://street"  # backbone and neck, see docs/pretraining.md
train.max_iter = 1000
train.ema = dict(enabled=True, decay=0.99, warmup=20, start_updates=0)
train.checkpointer.period = 200
train.eval_period = 0
