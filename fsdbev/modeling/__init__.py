"""Parts of the detector, from the image backbone to the center head, and its meta-architectures."""

from .backbone import FPN, ResNet, resnet_channels
from .bev_encoder import BEVEncoder, TemporalStage
from .bev_paste import BEVPaste
from .center_head import CenterHead
from .depth_net import DepthNet
from .foreground_branch import ForegroundBranch
from .image_features import ImageFeatures
from .meta_arch import FSDBEV, FrameFeatures, ImagePretraining, LiftSplatDetector
from .msfe import MSFE
from .pixel_depth_net import PixelDepthNet
from .registry import META_ARCH_REGISTRY, PART_REGISTRY, build_meta_arch, build_part
from .view_transform import ViewTransform

__all__ = [
    "BEVEncoder",
    "BEVPaste",
    "CenterHead",
    "DepthNet",
    "FPN",
    "FSDBEV",
    "ForegroundBranch",
    "FrameFeatures",
    "ImageFeatures",
    "ImagePretraining",
    "LiftSplatDetector",
    "META_ARCH_REGISTRY",
    "MSFE",
    "PART_REGISTRY",
    "PixelDepthNet",
    "ResNet",
    "TemporalStage",
    "ViewTransform",
    "build_meta_arch",
    "build_part",
    "resnet_channels",
]
