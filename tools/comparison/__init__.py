"""What tools/compare.py runs: configs, their runs, and the report."""
