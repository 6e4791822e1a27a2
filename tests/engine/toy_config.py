"""Complete config of the toy training."""

from toy_training import ToyEvaluator, ToyModel, test_loader, train_loader

from fsdbev.d2.config import LazyCall as L

from ...configs.common.optim import AdamW as optimizer
from ...configs.common.schedule import constant as lr_multiplier
from ...configs.common.train import train

model = L(ToyModel)(nan_at=[])

dataloader = dict(
    train=L(train_loader)(total_batch_size=8, num_workers=0, infinite=[]),
    test=L(test_loader)(length=5),
    evaluator=L(ToyEvaluator)(),
)

optimizer.lr = 1e-2
lr_multiplier.warmup_iters = 4
train.max_iter = 12
train.eval_period = 0
train.log_period = 1
train.checkpointer.period = 5
