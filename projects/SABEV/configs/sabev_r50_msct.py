"""SA-BEV with the multi-scale cross-task head, ResNet-50 (37.0 mAP, 48.8 NDS published)."""

from fsdbev.d2.config import LazyCall as L
from fsdbev.modeling import build_part, resnet_channels

from .sabev_r50 import dataloader, lr_multiplier, model, optimizer, train

model.depth_net = L(build_part)(
    name="CrossTaskHead",
    in_channels="${model.neck.out_channels}",
    backbone_channels=L(resnet_channels)(
        depth="${model.backbone.depth}", width="${model.backbone.width}"
    ),
    mid_channels=512,
    fine_mid_channels=256,
    context_channels=80,
    aspp_channels=512,
    dropout=0.5,
    depth_bins="${model.depth_bins}",
)
model.stride = 8
