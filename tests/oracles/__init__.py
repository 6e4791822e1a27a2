"""Published algorithms, restated step by step: oracles of the tests, and the other side of
``tools/benchmark.py``."""
