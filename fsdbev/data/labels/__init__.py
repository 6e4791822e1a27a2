"""Depth and foreground labels of camera pixels, made from LiDAR points."""
