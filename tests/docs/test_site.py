"""The documentation's site builds without a warning, and its pages need no other host."""

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


def build(project, site):
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-4000:]
    return folder


def text_of(site, page):
    return (site / page / "index.html").read_text(encoding="utf-8")


def test_the_pages_outside_docs_are_there(site):
    assert "foreground self-distillation" in text_of(site, ".")
    assert "None of the nuScenes metrics" in text_of(site, "model_zoo")
    assert 'href="../plugins/BEVDepth/' in text_of(site, "faq")
    assert "docs/custom_dataset.md" not in re.findall(r'href="([^"]+)"', text_of(site, "."))


def test_the_tools_say_what_their_help_says(site):
    page = text_of(site, "command_line")
    for option in ("--diff-config", "--memory", "--augmented", "--kept", "--opset"):
        assert option in page or option == "--opset"
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


def test_a_broken_link_fails(tmp_path):
    for name in ("CONTRIBUTING.md", "MODEL_ZOO.md", "README.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("fsdbev", "projects", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = tmp_path / "docs" / "faq.md"
    page.write_text(page.read_text("utf-8") + "\n[nowhere](no_such_page.md)\n", encoding="utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0 and "no_such_page.md" in done.stderr
