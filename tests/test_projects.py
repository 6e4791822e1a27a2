"""Projects are plugins: each stands alone, and nothing stands on it."""

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.engine import load_config

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = sorted(path.parent for path in (ROOT / "projects").glob("*/__init__.py"))
CONFIGS = sorted(file for project in PROJECTS for file in project.glob("configs/*.py"))
TINY = [next(iter(sorted(project.glob("configs/*tiny*.py"))), None) for project in PROJECTS]


def name_of(path):
    return "nothing" if path is None else str(path.relative_to(ROOT / "projects"))


def imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


@pytest.mark.parametrize("project", PROJECTS, ids=name_of)
def test_has_all_that_a_project_has(project):
    assert (project / "README.md").stat().st_size > 300
    for folder in ("configs", "modeling", "tests"):
        assert list((project / folder).glob("*.py")), f"{project.name}/{folder} is empty"


@pytest.mark.parametrize("project", PROJECTS, ids=name_of)
def test_imports_no_project_by_name(project):
    """Neither another one, which may not be there, nor itself, whose package may be renamed."""
    code = [f for f in project.glob("**/*.py") if "tests" not in f.relative_to(project).parts]
    for file in code:
        assert not [name for name in imported(file) if name.split(".")[0] == "projects"], file
    for file in project.glob("tests/*.py"):
        others = [n for n in imported(file) if n.startswith("projects.")]
        assert all(n.split(".")[1] == project.name for n in others), file


@pytest.mark.parametrize("folder", ["configs", "tests", "tools"])
def test_nothing_else_imports_a_project(folder):
    for file in (ROOT / folder).glob("**/*.py"):
        assert not [name for name in imported(file) if name.split(".")[0] == "projects"], file


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_every_config_instantiates_and_is_short(path):
    assert len(path.read_text().splitlines()) <= 50
    cfg = load_config(str(path))
    assert cfg.train.plugins == [f"projects.{path.parents[1].name}"]
    with torch.device("meta"):
        model = instantiate(cfg.model)
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert mapper.num_frames == model.num_frames and mapper.grid == model.grid
    assert 0 < instantiate(cfg.lr_multiplier)(0.0) < 0.1


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_resolved_config_survives_saving(path, tmp_path):
    cfg = load_config(str(path))
    saved = str(tmp_path / "config.yaml")
    LazyConfig.save(cfg, saved)
    with torch.device("meta"):
        models = [instantiate(config.model) for config in (cfg, LazyConfig.load(saved))]
    first, second = ({k: v.shape for k, v in m.state_dict().items()} for m in models)
    assert first == second


@pytest.mark.parametrize("path", [path for path in TINY if path], ids=name_of)
def test_trains_from_a_package_of_another_name(path, train_net, synthetic_root, tmp_path):
    """A copy outside of ``projects/``, with nothing beside it, trains and evaluates."""
    package = tmp_path / "somewhere" / "my_plugin"
    shutil.copytree(path.parents[1], package)
    output = tmp_path / "output"
    train_net(
        synthetic_root,
        output,
        "train.plugins=[my_plugin]",
        "train.max_iter=2",
        config=package / "configs" / path.name,
        python_path=package.parent,
    )
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    assert len(losses) == 2 and all(0 < loss < float("inf") for loss in losses)
    metrics = json.loads((output / "evaluation.json").read_text())["nuscenes"]
    assert 0 <= metrics["NDS"] <= 1
