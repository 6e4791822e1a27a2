"""docs/bad_inputs.md, written from the cases: python tests/bad_inputs/bad_inputs_page.py"""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bad_inputs.md"
_INTRODUCTION = """# Bad inputs

What comes of an input that is wrong: an error that names the file, the sample or the camera, and
what to do; or a handling that is written down here. Never a wrong result in silence, and never a
crash of another kind. `…` stands for names and numbers of the case. `tests/bad_inputs` tries each
of the {count} inputs, and this page is written from the same cases.

Beside them, hypothesis damages whole files at random (`tests/bad_inputs/test_fuzzing.py`): whatever
is done to an index, point labels, images, sweeps, tables, a rig file or a submission, reading it
ends in one of the same errors, or in content that can be used.

In a training, `train.max_bad_samples` says how many samples may be replaced by others when they
can't be loaded; 0, the default, makes the first one an error. Evaluation never skips a sample.
"""


def text() -> str:
    """The page as it should be."""
    from bad_themes import THEMES

    count = sum(len(theme.cases) for theme in THEMES)
    parts = [_INTRODUCTION.format(count=count)]
    for theme in THEMES:
        rows = [f"| {_cell(case.what)} | {_outcome(case)} |" for case in theme.cases]
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
    sys.path[:0] = [str(here), str(here.parent / "data"), str(here.parents[1])]
    PAGE.write_text(text(), encoding="utf-8")
