"""The frame index: one row per sample, for any data set and rig."""
