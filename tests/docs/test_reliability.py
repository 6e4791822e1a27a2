"""The tests and exit statuses that docs/reliability.md names exist."""

import ast
import re

from documents import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_every_promise_has_a_test_or_a_command():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| [A-Z`].*[.:] \|", line)]
    assert len(rows) > 20
    for row in rows:
        assert re.search(r"`tests/[\w/]+\.py::\w+`", row), row


def test_the_tests_exist():
    assert len(NAMED) > 30
    for file, name in NAMED:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, file


def test_the_exit_statuses_are_those_of_the_code():
    from fsdbev.utils.processes import PREEMPTED, RANK_LOST

    assert re.findall(r"^\| (\d+) \|", PAGE, re.M) == [
        "0",
        "1",
        "2",
        str(PREEMPTED),
        str(RANK_LOST),
    ]
