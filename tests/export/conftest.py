"""Lets the tests of this folder import export_cases.py, and that the streams' cases."""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "inference")]
