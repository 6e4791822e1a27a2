"""The small config with larger images and a longer training: the released ``zoo://fsdbev_street``.

See MODEL_ZOO.md for data, time and results.
"""

from .fsdbev_small_synthetic import dataloader, lr_multiplier, model, optimizer, train

dataloader.image_size = [176, 480]
dataloader.train.total_batch_size = 1
optimizer.lr = 2e-3
train.max_iter = 6500
