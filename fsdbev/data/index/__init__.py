"""The frame index: one row a sample, for any data set and rig."""
