"""Config of a model that is small enough to be compiled, on the synthetic data set.

The order of its classes differs from that of its tasks.
"""

from export_cases import two_tasks

from fsdbev.d2.config import LazyCall as L

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
model.head.class_names = ["barrier", "bus", "car"]
model.head.tasks = L(two_tasks)()

dataloader.image_size = [32, 64]
train.device = "cpu"
