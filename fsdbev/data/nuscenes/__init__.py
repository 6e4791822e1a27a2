"""Data sets in nuScenes format: from devkit tables to frame indexes and point labels."""
