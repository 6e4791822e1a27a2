"""Built-in replacement of parts of Detectron2: what this project uses, and what hooks, models and
evaluators of Detectron2 users call.

Names and behaviour are Detectron2's; differences are stated where they occur. fvcore, iopath,
omegaconf and PyTorch do most of the work. Import it through ``fsdbev.d2`` only.
"""
