"""What is used of Detectron2, under the same names and with the same behaviour, for machines
without it. Thin: fvcore, iopath, omegaconf and torch do the work where they can. Import it through
``fsdbev.d2`` only."""
