"""Data: frame index, point labels, augmentation, targets, mapper, samplers, loaders.

This package imports none of its modules, so that the synthetic data set can be generated without
PyTorch. Import from the modules directly.
"""
