"""Adds tests/parity to the path; the projects' tests import shapes of released weights from it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "parity"))
