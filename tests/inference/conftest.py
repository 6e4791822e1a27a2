"""Import path of this folder's ``stream_cases.py``."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
