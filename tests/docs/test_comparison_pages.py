"""The tables of the comparison pages are those of the tracked records."""

import shutil

import compare
import pytest
from documents import ROOT, commands

REPORTS = [command for command in commands() if "--report" in command.words]


@pytest.mark.parametrize("command", REPORTS, ids=str)
def test_tables_are_those_of_the_records(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    page, picture = tmp_path / "page.md", tmp_path / "picture.png"
    shutil.copy(command.document, page)
    words = list(command.words[2:])
    assert words[words.index("--doc") + 1] == command.document
    words[words.index("--doc") + 1] = str(page)
    words[words.index("--plot") + 1] = str(picture)
    assert compare.main(words) == 0, capsys.readouterr().err
    assert page.read_text() == (ROOT / command.document).read_text()
    assert picture.is_file()


def test_each_page_has_a_report():
    assert {command.document for command in REPORTS} == {"docs/ablation.md", "docs/comparison.md"}
