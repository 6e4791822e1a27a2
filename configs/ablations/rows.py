"""What a row of the paper's ablation lacks of the row below it, for any size of the model."""

from fsdbev.d2.config import LazyCall as L
from fsdbev.modeling import build_part


def without_msfe(model):
    """F16 alone feeds the depth network, and a branch of its own gives the foreground mask."""
    model.neck.skip_finest = 2
    model.msfe = L(build_part)(name="ForegroundBranch", in_channels="${..neck.out_channels}")


def without_pci(dataloader):
    """The labels are of the sweep's own points."""
    dataloader.frame_combination = False
    dataloader.pseudo_points = False


def without_fsd(model):
    """The student alone."""
    model.teacher_fill = None
