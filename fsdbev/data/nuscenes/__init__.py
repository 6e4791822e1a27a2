"""Data sets in nuScenes' format: from their tables to frame indexes and labels."""
