"""Import path of this folder's ``drawing.py``."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
