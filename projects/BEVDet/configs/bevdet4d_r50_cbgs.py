"""BEVDet4D, ResNet-50, 256x704, BEV 128x128, two frames, CBGS."""

from fsdbev.d2.config import LazyCall as L
from fsdbev.model_zoo import get_config
from fsdbev.modeling import build_part

dataloader, lr_multiplier, optimizer, train = get_config(
    "fsdbev_r50_cbgs.py", ("dataloader", "lr_multiplier", "optimizer", "train")
)
model = get_config("common/models/lift_splat_r50.py").model

model.name = "BEVDet4D"
model.depth_net = L(build_part)(
    name="PixelDepthNet",
    in_channels="${model.neck.out_channels}",
    context_channels=80,
    depth_bins="${model.depth_bins}",
)
model.depth_bins.step = 1.0  # as in the second version of the release

train.plugins = ["projects.BEVDet"]
# 20 epochs of 123580 samples, which CBGS draws from nuScenes train.
train.max_iter = 20 * 123580 // 64
dataloader.image_aug.scale = [0.94, 1.11]
dataloader.image_aug.scale_depth = False
