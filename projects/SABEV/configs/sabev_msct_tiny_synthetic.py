"""SA-BEV with the multi-scale cross-task head, small enough for a laptop's CPU."""

from fsdbev.model_zoo import get_config

from .sabev_r50_msct import model
from .sabev_tiny_synthetic import dataloader, lr_multiplier, optimizer, train

_tiny = get_config("common/tiny_synthetic.py")
model.merge_with(_tiny.sizes)
model.depth_net.merge_with(_tiny.depth_net_sizes)
model.depth_net.fine_mid_channels = 16
model.bev_paste = None
