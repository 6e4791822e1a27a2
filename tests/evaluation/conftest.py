"""Import path of this folder's shared cases."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
