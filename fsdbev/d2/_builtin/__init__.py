"""Built-in replacement of the parts of Detectron2 that this project uses.

Names and behaviour are Detectron2's; differences are stated where they occur. fvcore, iopath,
omegaconf and PyTorch do most of the work. Import it through ``fsdbev.d2`` only.
"""
