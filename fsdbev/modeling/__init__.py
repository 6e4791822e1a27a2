"""The model: image branch, foreground enhancement, depth, view transform, BEV encoder, head."""

from .backbone import FPN, ResNet, resnet_channels
from .bev_encoder import BEVEncoder, TemporalStage
from .bev_paste import BEVPaste
from .center_head import CenterHead
from .depth_net import DepthNet
from .foreground_branch import ForegroundBranch
from .meta_arch import FSDBEV
from .msfe import MSFE
from .view_transform import ViewTransform

__all__ = [
    "BEVEncoder",
    "BEVPaste",
    "CenterHead",
    "DepthNet",
    "FPN",
    "FSDBEV",
    "ForegroundBranch",
    "MSFE",
    "ResNet",
    "TemporalStage",
    "ViewTransform",
    "resnet_channels",
]
