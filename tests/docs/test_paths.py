"""Paths that the documents name exist in the repository, and the page on the layout stays short."""

import posixpath
import re

import pytest
from documents import DOCUMENTS, ROOT, python_blocks

#: Top-level folders whose paths a code span may name.
FOLDERS = ("fsdbev", "configs", "projects", "tools", "tests", "docs", "examples", ".github")
#: In the README of a plugin also its own folder of code.
PLUGIN_FOLDERS = (*FOLDERS, "modeling")
MAX_LAYOUT_LINES = 80
_PATH = r"(?<![\w./-])(?:{})/[\w./*<>{{}}-]*"
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE_BLOCK = re.compile(r"^ *```.*?^ *```$", re.M | re.S)
#: Names for the reader to replace, such as ``csrc/NAME.cpp`` and ``configs/<name>.py``.
_PLACEHOLDER = re.compile(r"[*<>{}]|\b[A-Z]+\.\w+$")
#: Pages that docs/hooks.py generates for the site.
GENERATED = {"docs/command_line.md"}
#: Files that the documents tell the reader to write.
WRITTEN = {block.file for block in python_blocks() if block.file}


def named_paths(text, folders=FOLDERS):
    """Returns the paths below ``folders`` that the code spans of a document name."""
    pattern = re.compile(_PATH.format("|".join(map(re.escape, folders))))
    found = set()
    for span in _SPAN.findall(_CODE_BLOCK.sub("", text)):
        for path in pattern.findall(span):
            if not _PLACEHOLDER.search(path):
                found.add(path.rstrip("."))
    return found


def linked_paths(text, folder):
    """Returns the paths that the relative links of a document in ``folder`` lead to."""
    found = set()
    for target in _LINK.findall(_CODE_BLOCK.sub("", text)):
        path = target.partition("#")[0]
        if path and ":" not in path:
            found.add(posixpath.normpath(posixpath.join(folder, path)))
    return found


@pytest.mark.parametrize(
    "document", [path.relative_to(ROOT).as_posix() for path in DOCUMENTS], ids=str
)
def test_named_and_linked_paths_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    folder = posixpath.dirname(document)
    plugin = folder.startswith("projects/")  # its README names files of its own folder
    own = ROOT / folder if plugin else ROOT
    missing = {
        path
        for path in named_paths(text, PLUGIN_FOLDERS if plugin else FOLDERS)
        if not (ROOT / path).exists() and not (own / path).exists()
    }
    missing |= {path for path in linked_paths(text, folder) if not (ROOT / path).exists()}
    assert missing <= GENERATED | WRITTEN


def test_missing_paths_are_found():
    text = "`tools/no.py --out x`, `fsdbev/layers/csrc/NAME.cpp`, [a](../no.md#b), [c](https://d.e)"
    assert named_paths(text) == {"tools/no.py"}
    assert linked_paths(text, "docs") == {"no.md"}
    assert named_paths("```bash\npython `tools/no.py`\n```") == set()


def test_the_layout_page_is_short_and_has_every_folder():
    text = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LAYOUT_LINES
    rows = re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", text, re.M)
    folders = {path.parent.name for path in (ROOT / "fsdbev").glob("*/__init__.py")}
    assert len(folders) > 10 and folders <= {name for name, _ in rows}
    for name, contents in rows:
        folder = ROOT / "fsdbev" / name
        assert folder.is_dir(), name
        for file in re.findall(r"`(\w+(?:\.py|/))`", contents):
            assert (folder / file).exists(), f"{name}/{file}"
