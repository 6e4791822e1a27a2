"""FSD-BEV small enough for a laptop's CPU: the quick start, minutes on the synthetic data set."""

from .common.models.fsdbev_r50 import model
from .common.tiny_synthetic import dataloader, lr_multiplier, optimizer, train
from .common.tiny_synthetic import depth_net_sizes as _depth_net_sizes
from .common.tiny_synthetic import sizes as _sizes

model.merge_with(_sizes)
model.depth_net.merge_with(_depth_net_sizes)
model.bev_paste = None
