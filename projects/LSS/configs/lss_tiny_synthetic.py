"""Lift, Splat, Shoot small enough for a laptop's CPU, on the synthetic data set."""

from fsdbev.model_zoo import get_config

from .lss_r50 import model

dataloader, lr_multiplier, optimizer, train, _sizes = get_config(
    "common/tiny_synthetic.py", ("dataloader", "lr_multiplier", "optimizer", "train", "sizes")
)

model.merge_with(_sizes)
model.depth_bins.start = 1.0  # the synthetic street is small
train.plugins = ["projects.LSS"]
dataloader.bev_aug.merge_with(dict(max_rotation=0.0, scale=[1.0, 1.0], flip_prob=0.0))
dataloader.image_aug.scale_depth = False
optimizer.lr = 2e-3  # 4e-3 delays the learning of models without depth labels
