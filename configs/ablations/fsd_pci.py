"""The paper's ablation, FSD + PCI: without MSFE (40.0 mAP, 51.6 NDS published).

F16 alone feeds the depth network, and a branch of its own gives the foreground mask.
"""

from fsdbev.d2.config import LazyCall as L
from fsdbev.modeling import build_part

from .fsd_pci_msfe import dataloader, lr_multiplier, model, optimizer, train

model.neck.skip_finest = 2
model.msfe = L(build_part)(name="ForegroundBranch", in_channels="${..neck.out_channels}")
