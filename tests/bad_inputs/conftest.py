"""Import path of this folder's helpers and those of tests/data."""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data")]
