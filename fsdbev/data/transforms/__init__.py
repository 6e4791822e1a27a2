"""Augmentation of images and BEV, and the 2D foreground targets."""
