"""Data: frame index, point labels, augmentations, targets, mapper, samplers, loaders.

Import from the modules; nothing is loaded here, so that the synthetic world needs no PyTorch.
"""
