"""Optimizers."""

from torch.optim import AdamW as _AdamW

from fsdbev.d2.config import LazyCall as L
from fsdbev.engine.optim import trainable_parameters

# params.model is set to the model before the optimizer is built
AdamW = L(_AdamW)(
    params=L(trainable_parameters)(model=None),
    lr=2e-4,
    weight_decay=1e-2,
    fused=True,  # one pass over all parameters
)
