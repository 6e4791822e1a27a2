"""Lets the projects' tests import the names and shapes of public weights in tests/parity."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "parity"))
