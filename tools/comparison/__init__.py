"""Parts of tools/compare.py: configs, their runs, and the report."""
