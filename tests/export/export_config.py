"""Config of a model that is small enough to be compiled, on the synthetic data set.

It has three classes, whose order differs from that of their groups, and both kinds of NMS.
"""

from fsdbev.d2.config import LazyCall as L
from fsdbev.structures import ClassSet

from ...configs.common.data.synthetic import dataloader
from ...configs.common.models.fsdbev_r50 import model
from ...configs.common.train import train

model.grid.cell = 6.4
model.depth_bins.step = 4.0
model.backbone.depth = 18
model.backbone.width = 4
model.neck.out_channels = 8
model.depth_net.mid_channels = 6
model.depth_net.context_channels = 4
model.depth_net.aspp_channels = 4
model.bev_encoder.out_channels = 8
model.head.shared_channels = 4
model.head.branch_channels = 4
model.head.max_candidates = 20
model.classes = L(ClassSet)(
    names=["pole", "lorry", "vehicle"],
    groups=[
        dict(names=["vehicle", "lorry"], dim_scale=[1.0, 0.5]),
        dict(names=["pole"], center_distance=8.0),
    ],
    ranges=dict(pole=30.0, vehicle=80.0),
)

dataloader.image_size = [32, 64]
train.device = "cpu"
