"""The algorithms of the public releases, step by step.

The tests compare the project with them, and ``tools/benchmark.py`` compares the speed.
"""
