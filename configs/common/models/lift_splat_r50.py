"""LiftSplatDetector with ResNet-50, the common base of all models.

Each size is defined once, and other keys refer to it. References are absolute, so that a part can
be wrapped or replaced. Parts are built by name, so that an override such as
``model.bev_encoder.name=...`` replaces one.
"""

from fsdbev.d2.config import LazyCall as L
from fsdbev.modeling import build_meta_arch, build_part, resnet_channels
from fsdbev.modeling.center_head import center_range
from fsdbev.structures import NUSCENES_CLASSES, BEVGrid, ClassSet, DepthBins

model = L(build_meta_arch)(
    name="LiftSplatDetector",
    # The source of the classes: data sets and checkpoints must have the same ones.
    classes=L(ClassSet)(**NUSCENES_CLASSES.to_dict()),
    grid=L(BEVGrid)(x_range=[-51.2, 51.2], y_range=[-51.2, 51.2], z_range=[-5.0, 3.0], cell=0.8),
    depth_bins=L(DepthBins)(start=1.0, stop=60.0, step=0.5),
    num_frames=2,
    # ImageNet's statistics, RGB 0..255
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
    # image branch
    backbone=L(build_part)(
        name="ResNet", depth=50, width=64, bn_momentum=0.1, activation_checkpoint=False
    ),
    neck=L(build_part)(
        name="FPN",
        in_channels=L(resnet_channels)(
            depth="${model.backbone.depth}", width="${model.backbone.width}"
        ),
        out_channels=512,
        skip_finest=2,  # only F16; F4 and F8 are for multi-scale foreground enhancement
    ),
    msfe=None,
    # image to BEV
    depth_net=L(build_part)(
        name="DepthNet",
        in_channels="${model.neck.out_channels}",
        mid_channels=512,
        context_channels=80,
        aspp_channels=96,
        dropout=0.5,
        depth_bins="${model.depth_bins}",
    ),
    view_transform=L(build_part)(
        name="ViewTransform",
        grid="${model.grid}",
        depth_bins="${model.depth_bins}",
        # both 0: all points are pooled
        foreground_threshold=0.0,
        depth_threshold=0.0,
    ),
    # BEV branch
    temporal_stage=L(build_part)(
        name="TemporalStage", channels="${model.depth_net.context_channels}", bn_momentum=0.1
    ),
    bev_encoder=L(build_part)(
        name="BEVEncoder",
        frame_channels="${model.depth_net.context_channels}",
        num_frames="${model.num_frames}",
        width="${model.depth_net.context_channels}",
        out_channels=256,
        bn_momentum=0.1,
    ),
    head=L(build_part)(
        name="CenterHead",
        in_channels="${model.bev_encoder.out_channels}",
        grid="${model.grid}",
        classes="${model.classes}",
        shared_channels=64,
        branch_channels=64,
        max_candidates=500,
        score_threshold=0.1,
        # detections beyond it are dropped; it must contain the grid
        center_range=L(center_range)(grid="${model.grid}", margin=10.0, below=5.0, above=7.0),
    ),
    # training
    bev_paste=None,
)
