"""BEVDepth, ResNet-50, 256x704, BEV 128x128, two key frames, depth refinement, CBGS."""

from fsdbev.d2.config import LazyCall as L
from fsdbev.model_zoo import get_config
from fsdbev.modeling import build_part

dataloader, lr_multiplier, optimizer, train = get_config(
    "fsdbev_r50_cbgs.py", ("dataloader", "lr_multiplier", "optimizer", "train")
)
model = get_config("common/models/lift_splat_r50.py").model

model.name = "BEVDepth"
model.depth_refinement = L(build_part)(
    name="DepthRefinement", channels="${model.depth_net.context_channels}"
)
# Loss weights, bins, weight decay and augmentation of the release.
model.depth_loss_weight = 3.0
model.depth_bins.merge_with(dict(start=2.0, stop=58.0))
model.head.velocity_weight = 0.5

train.plugins = ["projects.BEVDepth"]
# 20 epochs of 123580 samples, which CBGS draws from nuScenes train.
train.max_iter = 20 * 123580 // 64
optimizer.weight_decay = 1e-7
dataloader.image_aug.scale = [0.88, 1.25]
dataloader.image_aug.scale_depth = False
dataloader.frame_combination = False
dataloader.pseudo_points = False
