"""SA-BEV, ResNet-50, 256x704, BEV 128x128 (35.5 mAP, 46.7 NDS published)."""

from fsdbev.d2.config import LazyCall as L
from fsdbev.model_zoo import get_config
from fsdbev.modeling import build_part

dataloader, lr_multiplier, optimizer, train = get_config(
    "fsdbev_r50_cbgs.py", ("dataloader", "lr_multiplier", "optimizer", "train")
)
model = get_config("common/models/lift_splat_r50.py").model

model.name = "SABEV"
model.depth_net.name = "SemanticDepthNet"
model.depth_net.aspp_channels = 512
model.stride = 16
model.view_transform.foreground_threshold = 0.25
model.view_transform.depth_threshold = None  # 1 / D
model.bev_paste = L(build_part)(
    name="BEVPaste", max_rotation=22.5, scale=[0.95, 1.05], flip_prob=0.5
)
model.depth_loss_weight = 3.0
model.semantic_loss_weight = 25.0

train.plugins = ["projects.SABEV"]
# As in the release: labels from the points of one sweep, without scaling depth with the image.
dataloader.frame_combination = False
dataloader.pseudo_points = False
dataloader.image_aug.scale = [0.38 / 0.44, 0.55 / 0.44]
dataloader.image_aug.scale_depth = False
# 24 epochs of the 28130 samples of nuScenes train.
dataloader.train.class_balanced = False
dataloader.train.total_batch_size = 32
train.max_iter = 24 * 28130 // 32
train.checkpointer.period = 28130 // 32
