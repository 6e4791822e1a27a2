"""What MkDocs does for this site beside its own: pages that stand outside docs/, links that lead
out of docs/, and the tools' own help."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import runpy
import sys
import warnings
from pathlib import Path
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

#: Pages that stand elsewhere, by their name on the site.
OUTSIDE = {
    "index.md": "README.md",
    "model_zoo.md": "MODEL_ZOO.md",
    "contributing.md": "CONTRIBUTING.md",
    "plugins/index.md": "projects/README.md",
    **{
        f"plugins/{path.parent.name}.md": path.relative_to(ROOT).as_posix()
        for path in sorted(ROOT.glob("projects/*/README.md"))
    },
}
COMMAND_LINE = "command_line.md"
#: In the order in which one meets them; others follow.
TOOLS = (
    "train_net",
    "demo",
    "make_rig",
    "visualize",
    "make_synthetic_nuscenes",
    "prepare_nuscenes",
    "dataset_statistics",
    "evaluate",
    "analyze_model",
    "compare",
    "convert_checkpoint",
    "export_model",
    "benchmark",
)

_LINK = re.compile(r"(?P<open>!?\[(?P<text>[^\[\]]*)\])\((?P<target>[^()\s]+)\)")
_FENCE = re.compile(r"^\s*```")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, source in OUTSIDE.items():
        content = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=content))
    files.append(File.generated(config, COMMAND_LINE, content=command_line()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Relative links as the site has them."""
    name = page.file.src_uri
    source = OUTSIDE.get(name, f"docs/{name}")
    lines, in_code = [], False
    for line in markdown.split("\n"):
        if _FENCE.match(line):
            in_code = not in_code
        elif not in_code:
            line = _LINK.sub(lambda link: _on_site(link, name, source, config.repo_url), line)
        lines.append(line)
    return "\n".join(lines)


def _on_site(link: re.Match, name: str, source: str, repository: str | None) -> str:
    """A link of the page ``name``, whose text is the project's file ``source``.

    A page is linked as a page, and a file under docs/ as what it is. Where a file outside docs/ is
    meant, the link leads to the repository; without ``repo_url`` in mkdocs.yml its text remains.
    """
    target, _, anchor = link["target"].partition("#")
    if not target or ":" in target:
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    readme = f"{path}/README.md"
    place = {source: name for name, source in OUTSIDE.items()}
    page = place.get(path) or place.get(readme)
    if page is None and path.startswith("docs/"):
        page = path.removeprefix("docs/")
    if page is not None:
        relative = posixpath.relpath(page, posixpath.dirname(name) or ".")
        return f"{link['open']}({relative}{'#' * bool(anchor)}{anchor})"
    if not (ROOT / path).exists():
        return link[0]  # MkDocs warns
    return f"{link['open']}({repository}/blob/main/{path})" if repository else link["text"]


def command_line() -> str:
    """Every tool with what its --help says."""
    parts = [
        "# Command line",
        "What each tool says of itself (`--help`), taken from it when this site was built. Changes "
        "to a config, `path.key=value`, follow the options.",
    ]
    others = {path.stem for path in (ROOT / "tools").glob("*.py")} - {"command_line"}
    for name in [*TOOLS, *sorted(others.difference(TOOLS))]:
        parts += [f"## {name}.py", _as_code(help_of(name))]
        parts += [
            f"### {name}.py {mode}\n\n{_as_code(help_of(name, mode))}" for mode in _modes(name)
        ]
    return "\n\n".join(parts) + "\n"


def help_of(tool: str, *arguments: str) -> str:
    """What ``tools/<tool>.py ... --help`` prints."""
    path = str(ROOT / "tools" / f"{tool}.py")
    text = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [path, *arguments, "--help"]),
        mock.patch.object(sys, "path", [str(ROOT / "tools"), *sys.path]),  # as of a script
        mock.patch.dict(os.environ, {"COLUMNS": "100"}),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        warnings.simplefilter("ignore")  # what a tool imports may warn
        runpy.run_path(path, run_name="__main__")
    return text.getvalue()


def _modes(tool: str) -> list[str]:
    """Names of a tool's commands, of ``tool MODE ...``."""
    usage = re.search(r"\{([\w,]+)\}\s*\.\.\.", help_of(tool).partition("\n\n")[0])
    return usage[1].split(",") if usage else []


def _as_code(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
