"""Pre-training of the tiny configs' backbone and neck on 2D labels of synthetic street images.

The images: python tools/make_synthetic_nuscenes.py --format nuimages --out data/street_images
--scenes-train 240 --scenes-val 20 --frames 4 --rate 1 --seed 7001
"""

from fsdbev.d2.config import LazyCall as L
from fsdbev.modeling import build_meta_arch

from ..common.data.nuimages import dataloader
from ..common.models.fsdbev_r50 import model as _detector
from ..common.optim import AdamW as optimizer
from ..common.schedule import cosine as lr_multiplier
from ..common.tiny_synthetic import sizes as _sizes
from ..common.train import train

_detector.merge_with(_sizes)
model = L(build_meta_arch)(
    name="ImagePretraining",
    classes=_detector.classes,
    pixel_mean=_detector.pixel_mean,
    pixel_std=_detector.pixel_std,
    backbone=_detector.backbone,
    neck=_detector.neck,
)

dataloader.dataroot = "data/street_images"
dataloader.image_size = [112, 304]

optimizer.lr = 4e-3
lr_multiplier.warmup_iters = 100
train.max_iter = 6000
train.ema = dict(enabled=True, decay=0.998, warmup=100, start_updates=0)
train.checkpointer.period = 500
train.eval_period = 2000
train.report.enabled = False
