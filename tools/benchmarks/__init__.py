"""What tools/benchmark.py runs, a module a subject."""
