#!/usr/bin/env python
"""Trains or evaluates what a config file describes; --help has examples."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fsdbev.engine import run  # noqa: E402  after the path is set, for use without installation

if __name__ == "__main__":
    run()
