"""Projects are plugins: each stands alone, and nothing stands on it."""

import ast
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fsdbev.config import load_config
from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.inference import StreamingPredictor, diagnose
from fsdbev.layers import EXTENSION_BUILT
from fsdbev.utils.flops import analyze

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = sorted(path.parent for path in (ROOT / "projects").glob("*/__init__.py"))
CONFIGS = sorted(file for project in PROJECTS for file in project.glob("configs/*.py"))
ALL_TINY = [file for file in CONFIGS if "tiny" in file.stem]
TINY = [min(project.glob("configs/*tiny*.py")) for project in PROJECTS]


def name_of(path):
    return str(path.relative_to(ROOT / "projects"))


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
def test_every_config_instantiates_is_short_and_survives_saving(path, tmp_path):
    assert len(path.read_text().splitlines()) <= 50
    cfg = load_config(str(path))
    assert cfg.train.plugins == [f"projects.{path.parents[1].name}"]
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    with torch.device("meta"):
        model = instantiate(cfg.model)
        again = instantiate(LazyConfig.load(str(tmp_path / "config.yaml")).model)
    first, second = ({k: v.shape for k, v in m.state_dict().items()} for m in (model, again))
    assert first == second
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert mapper.num_frames == model.num_frames and mapper.grid == model.grid
    assert 0 < instantiate(cfg.lr_multiplier)(0.0) < 0.1


def made_small(path):
    """The model of a tiny config, seeded and smaller still, and fake samples for it."""
    cfg = load_config(str(path), ["model.grid.cell=7.0", "model.depth_bins.step=4.0"])
    torch.manual_seed(0)
    sizes = {"num_frames": cfg.model.num_frames, "num_cameras": 2, "image_size": (32, 64)}
    return instantiate(cfg.model), partial(fake_samples, **sizes)


@pytest.mark.parametrize("path", ALL_TINY, ids=name_of)
def test_two_steps_on_fake_samples(path):
    """Distributed training counts on a gradient for every parameter."""
    model, samples = made_small(path)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        losses = model(samples(2, training=True))
        assert all(loss.isfinite() for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        optimizer.step()


@pytest.mark.parametrize("path", ALL_TINY, ids=name_of)
def test_stream_finds_the_same(path):
    model, samples = made_small(path)
    model.train()(samples(2, training=True))  # statistics other than those of a fresh model
    model.head.decoder.score_threshold = 0.0
    stream = StreamingPredictor(model.eval())
    seen = []
    model.backbone.register_forward_hook(lambda *_: seen.append(1))
    for sample in samples(3):
        with torch.no_grad():
            (whole,) = model([sample])
        (streamed,) = stream([sample])
        whole, streamed = whole["instances"], streamed["instances"]
        assert len(whole.scores) > 0 and torch.equal(whole.pred_classes, streamed.pred_classes)
        torch.testing.assert_close(
            whole.pred_boxes_3d.tensor, streamed.pred_boxes_3d.tensor, atol=1e-4, rtol=1e-4
        )
    assert len(seen) == 3 * model.num_frames + 2 + model.num_frames  # not 6 times num_frames


@pytest.mark.parametrize("path", ALL_TINY, ids=name_of)
def test_beliefs_are_read_off(path):
    model, samples = made_small(path)
    model.train()(samples(2, training=True))  # statistics other than those of a fresh model
    (sample,) = samples(1, training=True)
    diagnostics = diagnose(model.eval(), sample, score_threshold=0.0)
    assert len(diagnostics.cameras) == 2 and diagnostics.truth is not None
    assert diagnostics.student_bev.shape == diagnostics.heatmap.shape == model.grid.shape
    for camera in diagnostics.cameras:
        maps = [camera.depth, camera.attention, camera.foreground]
        assert all(np.isfinite(values).all() for values in maps if values is not None)


@pytest.mark.parametrize("path", ALL_TINY, ids=name_of)
def test_cost_is_counted(path):
    model, _ = made_small(path)
    cost = analyze(model, image_size=(32, 64), num_cameras=2)
    assert set(cost.image_branch) >= {"backbone", "neck", "depth_net"}
    assert all(cost.image_branch[part] > 0 for part in cost.image_branch)
    assert not EXTENSION_BUILT or any("splat" in name for name in cost.total.operators)


#: Runs trainings one after the other in one process, which imports PyTorch once.
TRAIN_ALL = """
import json, sys
from fsdbev.engine import run

for arguments in json.load(sys.stdin):
    run(arguments)
"""


@pytest.fixture(scope="module")
def outputs(synthetic_root, tmp_path_factory):
    """Output folders by the project: a copy of each, outside of ``projects/`` and under another
    name, trains for an iteration and evaluates."""
    folder = tmp_path_factory.mktemp("somewhere")
    trainings, outputs = [], {}
    for path in TINY:
        project = path.parents[1]
        package = shutil.copytree(project, folder / f"my_{project.name}")
        outputs[project.name] = folder / "output" / project.name
        trainings.append(
            [
                "--config-file",
                str(package / "configs" / path.name),
                f"train.plugins=[{package.name}]",
                f"train.output_dir={outputs[project.name]}",
                f"dataloader.dataroot={synthetic_root}",
                "dataloader.image_size=[32,96]",
                "dataloader.train.num_workers=0",
                "dataloader.test.num_workers=0",
                "model.grid.cell=7.0",
                "train.device=cpu",
                "train.max_iter=1",
                "train.log_period=1",
                "train.report.enabled=false",
            ]
        )
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_ALL],
        input=json.dumps(trainings),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return outputs


@pytest.mark.parametrize("project", PROJECTS, ids=name_of)
def test_trains_from_a_package_of_another_name(project, outputs):
    output = outputs[project.name]
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    (loss,) = [line["total_loss"] for line in lines if "total_loss" in line]
    assert 0 < loss < float("inf")
    metrics = json.loads((output / "evaluation.json").read_text())["nuscenes"]
    assert 0 <= metrics["NDS"] <= 1
