"""Loaders of nuScenes for the synthetic data set of tools/make_synthetic_nuscenes.py."""

from .nuscenes import dataloader

dataloader.dataroot = "data/synthetic"
dataloader.version = "v1.0-synth"
dataloader.train_split = "synth_train"
dataloader.test_split = "synth_val"
dataloader.image_size = [128, 352]
dataloader.train.total_batch_size = 4
# On a few cores the model uses all of them, and worker processes only interrupt it.
dataloader.train.num_workers = 0
dataloader.test.num_workers = 0
