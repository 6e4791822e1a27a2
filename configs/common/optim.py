"""Optimizer of the published schedule (docs/model.md, "Training data")."""

from torch.optim import AdamW as _AdamW

from fsdbev.d2.config import LazyCall as L
from fsdbev.engine.optim import trainable_parameters

# build_optimizer sets params.model to the model.
AdamW = L(_AdamW)(
    params=L(trainable_parameters)(model=None),
    lr=2e-4,
    weight_decay=1e-2,
    fused=True,  # one kernel updates all parameters
)
