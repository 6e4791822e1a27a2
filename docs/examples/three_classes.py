"""FSD-BEV, tiny, with another range, own classes, part of the cameras and images at 10 Hz.

docs/own_settings.md explains each line and has the commands.
"""

from fsdbev.d2.config import LazyCall as L
from fsdbev.model_zoo import get_config
from fsdbev.structures import ClassSet

model, dataloader, optimizer, lr_multiplier, train = get_config(
    "fsdbev_tiny_synthetic.py", ("model", "dataloader", "optimizer", "lr_multiplier", "train")
)

model.classes = L(ClassSet)(
    names=["vehicle", "two_wheeler", "pedestrian"],
    # classes of similar size share a group of the head and its non-maximum suppression
    groups=[["vehicle"], dict(names=["two_wheeler", "pedestrian"], dim_scale=[1.0, 4.5])],
    categories=dict(
        vehicle=[
            "vehicle.car",
            "vehicle.truck",
            "vehicle.bus.rigid",
            "vehicle.bus.bendy",
            "vehicle.construction",
            "vehicle.trailer",
        ],
        two_wheeler=["vehicle.motorcycle", "vehicle.bicycle"],
        pedestrian=[
            "human.pedestrian.adult",
            "human.pedestrian.child",
            "human.pedestrian.construction_worker",
            "human.pedestrian.police_officer",
        ],
    ),
    # attribute of an object at rest and of a moving one
    attributes=dict(
        vehicle=["vehicle.parked", "vehicle.moving"],
        two_wheeler=["cycle.without_rider", "cycle.with_rider"],
        pedestrian=["pedestrian.standing", "pedestrian.moving"],
    ),
    ranges=dict(vehicle=70.0, two_wheeler=50.0, pedestrian=50.0),
)
# 80 m ahead and 32 m to each side; depth bins that reach as far
model.grid.x_range = [0.0, 80.0]
model.grid.y_range = [-32.0, 32.0]
model.grid.cell = 1.0
model.depth_bins.stop = 82.0

dataloader.dataroot = "data/street_10hz"
dataloader.cameras = ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"]
dataloader.frame_interval = 0.5
# no flip of x, which would move objects behind the range
dataloader.bev_aug.flip_prob = [0.0, 0.5]
train.max_iter = 300
