#!/usr/bin/env python
"""Trains or evaluates the model of a config file; --help shows examples."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fsdbev.engine import run  # noqa: E402  after the path is set, for use without installation

if __name__ == "__main__":
    run()
