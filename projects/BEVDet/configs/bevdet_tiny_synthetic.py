"""BEVDet small enough for a laptop's CPU, on the synthetic data set."""

from fsdbev.model_zoo import get_config

from .bevdet_r50_cbgs import model

_tiny = get_config("common/tiny_synthetic.py")
dataloader, lr_multiplier, optimizer, train = (
    _tiny[key] for key in ("dataloader", "lr_multiplier", "optimizer", "train")
)

model.merge_with(_tiny.sizes)
train.plugins = ["projects.BEVDet"]
dataloader.image_aug.scale_depth = False
