"""Lets the tests of this folder import their helpers and those of tests/data."""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data")]
