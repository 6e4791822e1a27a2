"""FSD-BEV of the quick start with the dilated BEV encoder."""

from fsdbev.model_zoo import get_config

dataloader, lr_multiplier, model, optimizer, train = get_config(
    "fsdbev_tiny_synthetic.py", ("dataloader", "lr_multiplier", "model", "optimizer", "train")
)

model.bev_encoder.name = "DilatedBEVEncoder"
train.plugins = ["projects.DilatedEncoder"]
