"""Projects are plugins: they do not depend on each other, and nothing depends on them."""

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
from fsdbev.d2.config import instantiate
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
def test_files_of_a_project(project):
    assert (project / "README.md").stat().st_size > 300
    for folder in ("configs", "modeling", "tests"):
        assert list((project / folder).glob("*.py")), f"{project.name}/{folder} is empty"


@pytest.mark.parametrize("project", PROJECTS, ids=name_of)
def test_imports_no_project_by_name(project):
    """Neither another one, which may be missing, nor itself, whose package may be renamed."""
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


def small_model(path, trained=False):
    """Returns a smaller variant of a tiny config's model, seeded, and fake samples for it.

    With ``trained``, its BatchNorm statistics are those of a training batch.
    """
    cfg = load_config(str(path), ["model.grid.cell=7.0", "model.depth_bins.step=4.0"])
    torch.manual_seed(0)
    sizes = {"num_frames": cfg.model.num_frames, "num_cameras": 2, "image_size": (32, 64)}
    model, samples = instantiate(cfg.model), partial(fake_samples, **sizes)
    if trained:
        model.train()(samples(2, training=True))
    return model, samples


@pytest.mark.parametrize("path", ALL_TINY, ids=name_of)
def test_two_steps_on_fake_samples(path):
    """Every parameter has a gradient, which distributed training needs."""
    model, samples = small_model(path)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        losses = model(samples(2, training=True))
        assert all(loss.isfinite() for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        optimizer.step()


@pytest.mark.parametrize("path", ALL_TINY, ids=name_of)
def test_stream_gives_the_same_boxes(path):
    model, samples = small_model(path, trained=True)
    model.head.decoder.score_threshold = 0.0
    stream = StreamingPredictor(model.eval())
    passes = []
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    for sample in samples(3):
        with torch.no_grad():
            (expected,) = model([sample])
        (streamed,) = stream([sample])
        expected, streamed = expected["instances"], streamed["instances"]
        assert len(expected.scores) > 0
        assert torch.equal(expected.pred_classes, streamed.pred_classes)
        torch.testing.assert_close(
            expected.pred_boxes_3d.tensor, streamed.pred_boxes_3d.tensor, atol=1e-4, rtol=1e-4
        )
    assert len(passes) == 3 * model.num_frames + 2 + model.num_frames  # not 6 times num_frames


@pytest.mark.parametrize("path", ALL_TINY, ids=name_of)
def test_diagnostics(path):
    model, samples = small_model(path, trained=True)
    (sample,) = samples(1, training=True)
    diagnostics = diagnose(model.eval(), sample, score_threshold=0.0)
    assert len(diagnostics.cameras) == 2 and diagnostics.truth is not None
    assert diagnostics.student_bev.shape == diagnostics.heatmap.shape == model.grid.shape
    for camera in diagnostics.cameras:
        maps = [camera.depth, camera.attention, camera.foreground]
        assert all(np.isfinite(values).all() for values in maps if values is not None)


@pytest.mark.parametrize("path", ALL_TINY, ids=name_of)
def test_cost(path):
    model, _ = small_model(path)
    cost = analyze(model, image_size=(32, 64), num_cameras=2)
    assert set(cost.image_branch) >= {"backbone", "neck", "depth_net"}
    assert all(cost.image_branch[part] > 0 for part in cost.image_branch)
    assert not EXTENSION_BUILT or any("splat" in name for name in cost.total.operators)


#: Runs several trainings in one process, which imports PyTorch once.
TRAIN_ALL = """
import json, sys
from fsdbev.engine import run

for arguments in json.load(sys.stdin):
    run(arguments)
"""


@pytest.fixture(scope="module")
def outputs(synthetic_root, tmp_path_factory):
    """Output folders by project, of a training and an evaluation of a copy outside of ``projects/``
    and under another name."""
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
                "dataloader.train.total_batch_size=2",
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
