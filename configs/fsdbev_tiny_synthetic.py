"""FSD-BEV at tiny size for the quick start: minutes on a CPU, with the synthetic data set."""

from .common.models.fsdbev_r50 import model
from .common.tiny_synthetic import (
    dataloader,
    depth_net_sizes as _depth_net_sizes,
    lr_multiplier,
    optimizer,
    sizes as _sizes,
    train,
)

model.merge_with(_sizes)
model.depth_net.merge_with(_depth_net_sizes)
model.bev_paste = None
