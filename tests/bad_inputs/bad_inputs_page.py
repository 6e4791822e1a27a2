"""Generates docs/bad_inputs.md from the cases: python tests/bad_inputs/bad_inputs_page.py"""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bad_inputs.md"
_INTRODUCTION = """# Bad inputs

A bad input either raises an error that names the file, the sample or the camera and a remedy, or is
handled as described on this page. It never leads to a wrong result without an error or to a crash.
In the messages, `…` stands for any text. `tests/bad_inputs` tests each of the {count} inputs; this
page is generated from the same cases.

In addition, hypothesis damages files at random (`tests/bad_inputs/test_fuzzing.py`): an index,
point labels, images, sweeps, tables, rig files and submissions. Reading them raises one of the same
errors or returns valid content.

In a training, `train.max_bad_samples` is the number of samples that may be replaced by others if
they cannot be loaded. With 0, the default, the first one is an error. An evaluation never skips a
sample.
"""


def text() -> str:
    """Returns the text of the page."""
    from bad_themes import THEMES

    count = sum(len(theme.cases) for theme in THEMES)
    parts = [_INTRODUCTION.format(count=count)]
    for theme in THEMES:
        rows = [f"| {_cell(case.name)} | {_outcome(case)} |" for case in theme.cases]
        table = ["| input | outcome |", "|---|---|", *rows]
        parts.append("\n".join([f"## {theme.title}", "", theme.about, "", *table]) + "\n")
    return "\n".join(parts)


def _outcome(case) -> str:
    if case.error is None:
        return _cell(case.outcome)
    return f"`{case.error.__name__}`: {_cell(case.outcome)}"


def _cell(value: str) -> str:
    for character in ("\\", "|", "<", "[", "]", "*", "_"):
        value = value.replace(character, "\\" + character)
    return value


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    root = here.parents[1]
    sys.path[:0] = map(str, (here, here.parent, here.parent / "data", root, root / "tools"))
    PAGE.write_text(text(), encoding="utf-8")
