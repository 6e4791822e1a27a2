"""The quick start's FSD-BEV with the dilated encoder."""

from fsdbev.model_zoo import get_config

_base = get_config("fsdbev_tiny_synthetic.py")
dataloader, lr_multiplier, model, optimizer, train = (
    _base[key] for key in ("dataloader", "lr_multiplier", "model", "optimizer", "train")
)

model.bev_encoder.name = "DilatedBEVEncoder"
train.plugins = ["projects.DilatedEncoder"]
