"""Lift, Splat, Shoot, ResNet-50, 256x704, BEV 128x128: the release's lift on common parts."""

from fsdbev.d2.config import LazyCall as L
from fsdbev.model_zoo import get_config
from fsdbev.modeling import build_part

dataloader, lr_multiplier, optimizer, train = get_config(
    "fsdbev_r50_cbgs.py", ("dataloader", "lr_multiplier", "optimizer", "train")
)
model = get_config("common/models/lift_splat_r50.py").model

model.name = "LSS"
model.num_frames = 1
model.temporal_stage = None
model.depth_net = L(build_part)(
    name="PixelDepthNet",
    in_channels="${model.neck.out_channels}",
    context_channels=64,
    depth_bins="${model.depth_bins}",
)
# Bins, context channels and height range of the release.
model.depth_bins.merge_with(dict(start=4.0, stop=45.0, step=1.0))
model.grid.z_range = [-10.0, 10.0]
# One threshold for all groups of classes: Scale-NMS came later (BEVDet, arXiv:2112.11790).
model.classes.groups = [dict(names=group.names) for group in model.classes.groups]

train.plugins = ["projects.LSS"]
# The release augments images but not BEV.
dataloader.image_aug.scale = [0.88, 1.02]
dataloader.bev_aug.merge_with(dict(max_rotation=0.0, scale=[1.0, 1.0], flip_prob=0.0))
dataloader.train.class_balanced = False
dataloader.image_aug.scale_depth = False
