"""How command-line tools end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable


def exit_status(run: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """``run(args)``: 0, or 1 after printing what is wrong with a file or value."""
    try:
        run(args)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
