"""Differences between the rows of the ablation in FSD-BEV (arXiv:2407.10135), for any model size.

``without_*`` turn the config of a row into that of the row above it.
"""

from fsdbev.d2.config import LazyCall as L
from fsdbev.modeling import build_part


def without_msfe(model):
    """Removes MSFE: F16 is the depth network's input, and ForegroundBranch predicts the mask."""
    model.neck.skip_finest = 2
    model.msfe = L(build_part)(name="ForegroundBranch", in_channels="${model.neck.out_channels}")


def without_pci(dataloader):
    """Removes point cloud intensification: labels come only from the points of the sweep."""
    dataloader.frame_combination = False
    dataloader.pseudo_points = False


def without_fsd(model):
    """Removes foreground self-distillation: only the student is trained."""
    model.teacher_fill = None


def teacher_alone(model, dataloader):
    """Trains and evaluates the teacher without its student, by labels."""
    model.student = False
    dataloader.test.mapper.with_labels = True
