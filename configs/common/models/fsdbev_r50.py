"""FSD-BEV with ResNet-50: the differences from the common lift-splat detector."""

from fsdbev.d2.config import LazyCall as L
from fsdbev.modeling import build_part

from .lift_splat_r50 import model

model.name = "FSDBEV"
# multi-scale foreground enhancement, which needs F4 and F8 in addition to F16, and the masks of the
# view transform
model.neck.skip_finest = 0
model.msfe = L(build_part)(
    name="MSFE",
    in_channels="${model.neck.out_channels}",
    classes="${model.classes}",
    threshold=0.1,
)
model.view_transform.foreground_threshold = 0.1
model.view_transform.depth_threshold = None  # 1 / D, as in a uniform distribution
# training: BEV-paste, and labels for the teacher's depth (docs/model.md, "Foreground
# self-distillation")
model.bev_paste = L(build_part)(
    name="BEVPaste", max_rotation=22.5, scale=[0.95, 1.05], flip_prob=0.5
)
model.teacher_fill = "paper"  # "release": without the student's soft labels; None: no teacher
model.depth_loss_weight = 3.0
model.distill_loss_weight = 1.0
model.foreground_loss_weight = 1.0
