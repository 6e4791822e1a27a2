"""FSD-BEV with a ResNet-50: the whole recipe. Every size stands once; the rest refers to it."""

from fsdbev.d2.config import LazyCall as L
from fsdbev.modeling import (
    FPN,
    FSDBEV,
    MSFE,
    BEVEncoder,
    BEVPaste,
    CenterHead,
    DepthNet,
    ResNet,
    TemporalStage,
    ViewTransform,
    resnet_channels,
)
from fsdbev.structures import BEVGrid, DepthBins

model = L(FSDBEV)(
    grid=L(BEVGrid)(x_range=[-51.2, 51.2], y_range=[-51.2, 51.2], z_range=[-5.0, 3.0], cell=0.8),
    depth_bins=L(DepthBins)(start=1.0, stop=60.0, step=0.5),
    num_frames=2,
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
    # image branch
    backbone=L(ResNet)(depth=50, width=64, bn_momentum=0.1, activation_checkpoint=False),
    neck=L(FPN)(
        in_channels=L(resnet_channels)(depth="${...backbone.depth}", width="${...backbone.width}"),
        out_channels=512,
        skip_finest=0,
    ),
    msfe=L(MSFE)(in_channels="${..neck.out_channels}", threshold=0.1),
    # image to BEV
    depth_net=L(DepthNet)(
        in_channels="${..neck.out_channels}",
        mid_channels=512,
        context_channels=80,
        aspp_channels=96,
        dropout=0.5,
        depth_bins="${..depth_bins}",
    ),
    view_transform=L(ViewTransform)(
        grid="${..grid}", depth_bins="${..depth_bins}", foreground_threshold=0.1
    ),
    # BEV branch
    temporal_stage=L(TemporalStage)(channels="${..depth_net.context_channels}", bn_momentum=0.1),
    bev_encoder=L(BEVEncoder)(
        frame_channels="${..depth_net.context_channels}",
        num_frames="${..num_frames}",
        width="${..depth_net.context_channels}",
        out_channels=256,
        bn_momentum=0.1,
    ),
    head=L(CenterHead)(
        in_channels="${..bev_encoder.out_channels}",
        grid="${..grid}",
        shared_channels=64,
        branch_channels=64,
        max_candidates=500,
        score_threshold=0.1,
    ),
    # training
    bev_paste=L(BEVPaste)(max_rotation=22.5, scale=[0.95, 1.05], flip_prob=0.5),
    teacher_fill="paper",
    depth_loss_weight=3.0,
    distill_loss_weight=1.0,
    foreground_loss_weight=1.0,
)
