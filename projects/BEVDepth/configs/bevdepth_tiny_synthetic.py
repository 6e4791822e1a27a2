"""BEVDepth small enough for a laptop's CPU, on the synthetic data set."""

from fsdbev.model_zoo import get_config

from .bevdepth_r50_cbgs import model

_tiny = get_config("common/tiny_synthetic.py")
dataloader, lr_multiplier, optimizer, train = (
    _tiny[key] for key in ("dataloader", "lr_multiplier", "optimizer", "train")
)

model.merge_with(_tiny.sizes)
model.depth_net.merge_with(_tiny.depth_net_sizes)
model.depth_bins.start = 1.0
train.plugins = ["projects.BEVDepth"]
dataloader.image_aug.scale_depth = False
dataloader.frame_combination = False
dataloader.pseudo_points = False
