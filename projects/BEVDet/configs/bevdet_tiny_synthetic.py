"""BEVDet small enough for a laptop's CPU, on the synthetic data set."""

from fsdbev.model_zoo import get_config

from .bevdet_r50_cbgs import model

dataloader, lr_multiplier, optimizer, train, _sizes = get_config(
    "common/tiny_synthetic.py", ("dataloader", "lr_multiplier", "optimizer", "train", "sizes")
)

model.merge_with(_sizes)
train.plugins = ["projects.BEVDet"]
dataloader.image_aug.scale_depth = False
optimizer.lr = 2e-3  # 4e-3 delays the learning of models without depth labels
