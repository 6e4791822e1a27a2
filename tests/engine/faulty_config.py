"""Config of the toy training with a fault in one process, see faulty_training.py."""

from faulty_training import FaultyEvaluator, FaultyModel, train_loader

from fsdbev.d2.config import LazyCall as L

from .toy_config import dataloader, lr_multiplier, optimizer, train

model = L(FaultyModel)()
dataloader.train = L(train_loader)(total_batch_size=8, num_workers=0)
dataloader.evaluator = L(FaultyEvaluator)()
optimizer.lr = 1e-2
lr_multiplier.warmup_iters = 2
train.max_iter = 6
