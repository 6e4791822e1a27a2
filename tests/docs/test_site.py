"""The documentation site builds without warnings, and its pages load nothing from another host."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings_handlers.python")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of the site and finished process of a strict build with a broken link in one page.

    mkdocs writes the site although the build fails.
    """
    folder = tmp_path_factory.mktemp("site")
    for path in ROOT.iterdir():
        if path.name not in (".git", ".venv", "docs", "site"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", folder / "docs")
    with open(folder / "docs" / "faq.md", "a", encoding="utf-8") as page:
        page.write("\n[nowhere](no_such_page.md)\n")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", "site"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return folder / "site", done


@pytest.fixture
def site(built):
    return built[0]


def text_of(site, page):
    return (site / page / "index.html").read_text(encoding="utf-8")


def test_the_broken_link_is_the_only_warning_and_an_error(built):
    _, done = built
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1 and "no_such_page.md" in warnings[0], done.stderr[-4000:]
    assert done.returncode != 0


def test_the_site_has_the_pages_outside_docs(site):
    assert "foreground self-distillation" in text_of(site, ".")
    assert "None of the nuScenes metrics" in text_of(site, "model_zoo")
    assert 'href="../plugins/BEVDepth/' in text_of(site, "faq")
    assert "docs/custom_dataset.md" not in re.findall(r'href="([^"]+)"', text_of(site, "."))


def test_the_site_has_the_help_of_the_tools(site):
    page = text_of(site, "command_line")
    for option in ("--diff-config", "--memory", "--augmented", "--kept"):
        assert option in page
    for tool in (path.stem for path in (ROOT / "tools").glob("*.py")):
        assert f"{tool}.py" in page or tool == "command_line"


def test_public_names_are_documented(site):
    from fsdbev import engine, layers, modeling, structures

    for package in (engine, layers, modeling, structures):
        page = text_of(site, f"api/{package.__name__.rpartition('.')[2]}")
        classes = [n for n in package.__all__ if callable(getattr(package, n))]
        missing = [n for n in classes if f"{package.__name__}.{n}" not in page]
        assert not missing, f"{package.__name__}: {missing}"


def test_nothing_is_loaded_from_elsewhere(site):
    loads = re.compile(r'<(?:script|img|source|iframe)[^>]+src="(?:https?:)?//|<link[^>]+https?://')
    for page in site.glob("**/*.html"):
        found = [m[0] for m in loads.finditer(page.read_text("utf-8")) if "canonical" not in m[0]]
        assert not found, f"{page}: {found}"
