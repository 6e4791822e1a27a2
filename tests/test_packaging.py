"""Dockerfile, citation, issue template and CI are consistent with the package."""

import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from fsdbev import __version__

ROOT = Path(__file__).resolve().parents[1]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def instructions():
    """Yields (instruction, arguments) of the Dockerfile."""
    lines = [line for line in read("Dockerfile").splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def ignored_by_docker(path):
    """Returns whether .dockerignore, which lists the allowed paths, excludes a path."""
    rules = [line for line in read(".dockerignore").splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    return not any(path == rule or path.startswith(f"{rule}/") for rule in allowed)


def test_the_dockerfile_copies_existing_files():
    copied = []
    for name, rest in instructions():
        if name == "COPY":
            *sources, _ = [word for word in shlex.split(rest) if not word.startswith("--")]
            copied += sources
    assert {"fsdbev", "configs", "projects", "tools", "weights", "setup.py"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists() and not ignored_by_docker(path), path


def test_the_dockerfile_copies_all_files_of_the_package():
    copied = read("Dockerfile")
    for line in read("MANIFEST.in").splitlines():
        for name in line.split()[1:]:
            assert name.split("/")[0] in copied, name
    assert re.search(r'^readme = "README.md"', read("pyproject.toml"), re.M)


def test_the_dockerfile_uses_a_supported_python():
    versions = set(re.findall(r"python3\.(\d+)", read("Dockerfile")))
    low, high = re.search(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', read("pyproject.toml")
    ).groups()
    assert len(versions) == 1 and int(low) <= int(versions.pop()) < int(high)


def test_the_dockerfile_installs_pinned_versions_as_another_user():
    names = [name for name, _ in instructions()]
    runs = [rest for name, rest in instructions() if name == "RUN"]
    installs = [run for run in runs if "pip install" in run]
    assert len(installs) == 2 and all("-c constraints.txt" in run for run in installs)
    assert re.search(r"^torch==", read("constraints.txt"), re.M)
    first_install = next(i for i, (_, rest) in enumerate(instructions()) if "pip install" in rest)
    assert names.index("USER") < first_install
    assert [rest for name, rest in instructions() if name == "USER"] == ["fsdbev"]
    assert any("build_ext --inplace" in run and "TORCH_CUDA_ARCH_LIST" in run for run in runs)


def test_the_dockerfile_compiles_for_supported_architectures():
    text = re.search(r'ARG TORCH_CUDA_ARCH_LIST="([^"]+)"', read("Dockerfile"))[1]
    known = re.search(r'CUDA_ARCHITECTURES = "([^"]+)"', read("setup.py"))[1]
    assert set(text.split(";")) <= set(known.split(";"))


def test_the_citation_has_this_version_and_the_paper():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert str(citation["version"]) == __version__ and citation["license"] == "Apache-2.0"
    paper = citation["preferred-citation"]
    assert "Foreground Self-Distillation" in paper["title"] and paper["year"] == 2024
    assert paper["authors"][0] == {"given-names": "Zheng", "family-names": "Jiang"}
    assert "2407.10135" in paper["url"] and "2407.10135" in read("README.md")


def test_the_issue_template_asks_for_the_environment():
    template = yaml.safe_load(read(".github/ISSUE_TEMPLATE/bug.yml"))
    (field,) = [field for field in template["body"] if field.get("id") == "environment"]
    assert "python -m fsdbev.utils.collect_env" in field["attributes"]["description"]
    assert field["validations"]["required"]


@pytest.mark.parametrize("job", ["lint", "docs", "builtin", "detectron2"])
def test_ci_has_the_job(job):
    jobs = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]
    runs = " ".join(step.get("run", "") for step in jobs[job]["steps"])
    expected = {"lint": "ruff", "docs": "mkdocs build --strict", "builtin": ".ci/run"}
    assert expected.get(job, "pytest") in runs


def test_every_extra_is_pinned():
    """constraints.txt has all packages of the extras."""
    project = read("pyproject.toml")
    section = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    pinned = {line.split("==")[0].lower() for line in read("constraints.txt").splitlines()}
    named = [re.match(r"[\w-]+", text)[0] for text in re.findall(r'"([^"]+)"', section)]
    assert {name.lower() for name in named} - {"fsdbev"} <= pinned


def test_all_places_name_the_same_versions_of_python():
    """Those for which NumPy 1.26, the last one below 2, has wheels: 3.10 to 3.12."""
    numpy = [text for text in metadata.requires("nuscenes-devkit") if text.startswith("numpy")]
    assert "<2" in numpy[0]
    project = read("pyproject.toml")
    assert re.search(r'^requires-python = "(.*?)"', project, re.M)[1] == ">=3.10,<3.13"
    assert re.findall(r"Python :: (3\.\d+)", project) == ["3.10", "3.11", "3.12"]
    jobs = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]
    tested = jobs["builtin"]["strategy"]["matrix"]["python-version"]
    assert tested == ["3.10", "3.11", "3.12"]
    for name in ("README.md", "docs/faq.md", "docs/getting_started.md", "tools/quickstart.sh"):
        assert re.findall(r"(3\.\d+) to (3\.\d+)", read(name)) == [("3.10", "3.12")], name
    environment = read("tools/environment.sh")
    assert re.findall(r"(3\.\d+) to (3\.\d+)", environment) == [("3.10", "3.12")] * 2
    assert "(3, 10) <= sys.version_info[:2] <= (3, 12)" in environment
