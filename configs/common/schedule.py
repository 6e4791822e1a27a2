"""Learning rate schedules, as multiples of the optimizer's ``lr``.

The published schedule is ``constant`` (docs/model.md, "Training data").
"""

from fsdbev.d2.config import LazyCall as L
from fsdbev.engine.optim import constant_with_warmup, cosine_with_warmup

constant = L(constant_with_warmup)(
    max_iter="${train.max_iter}", warmup_iters=200, warmup_factor=1e-3
)
cosine = L(cosine_with_warmup)(
    max_iter="${train.max_iter}", warmup_iters=200, warmup_factor=1e-3, end_factor=0.0
)
