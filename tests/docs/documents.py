"""Commands of the bash blocks and Python blocks of the project's documents."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "MODEL_ZOO.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("projects/**/README.md")),
]
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^ *```$", re.M | re.S)
_FILE = re.compile(r"# (?P<file>\S+\.py)\n")
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


@dataclass(frozen=True)
class Command:
    """A command of a bash block.

    Comments and environment variables before the command are dropped; variables of the block are
    replaced by their values.
    """

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.words)}"


@dataclass(frozen=True)
class PythonBlock:
    """A Python block; ``file`` is the file name in its first line, or None."""

    document: str
    file: str | None
    code: str


def _blocks(language: str) -> Iterator[tuple[str, str]]:
    """Yields document and code of the blocks of a language, in the order of the documents."""
    for path in DOCUMENTS:
        for block in _BLOCK.finditer(path.read_text(encoding="utf-8")):
            if block["language"] == language:
                yield path.relative_to(ROOT).as_posix(), block["code"]


def commands() -> list[Command]:
    """Returns all commands, in the order of the documents."""
    found = []
    for document, code in _blocks("bash"):
        variables: dict[str, str] = {}
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and _ASSIGNMENT.fullmatch(words[0]):
                name, _, variables[name] = words.pop(0).partition("=")
            for name, value in variables.items():
                words = [word.replace(f"${name}", value) for word in words]
            if words:
                found.append(Command(document, tuple(words)))
    return found


def python_blocks() -> list[PythonBlock]:
    """Returns all Python blocks, in the order of the documents."""
    found = []
    for document, code in _blocks("python"):
        name = _FILE.match(code)
        found.append(PythonBlock(document, name["file"] if name else None, code))
    return found
