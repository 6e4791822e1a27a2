"""SA-BEV small enough for a laptop's CPU, on the synthetic data set."""

from fsdbev.model_zoo import get_config

from .sabev_r50 import model

dataloader, lr_multiplier, optimizer, train, _sizes, _depth_net_sizes = get_config(
    "common/tiny_synthetic.py",
    ("dataloader", "lr_multiplier", "optimizer", "train", "sizes", "depth_net_sizes"),
)

model.merge_with(_sizes)
model.depth_net.merge_with(_depth_net_sizes)
model.bev_paste = None
train.plugins = ["projects.SABEV"]
dataloader.frame_combination = False
dataloader.pseudo_points = False
dataloader.image_aug.scale_depth = False
