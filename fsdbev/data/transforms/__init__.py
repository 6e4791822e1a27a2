"""Augmentation of images and BEV, and 2D training targets."""
