"""Runs the Python blocks of docs/custom_dataset.md, in order, in a folder with the configs."""

import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.d2.structures import Instances
from fsdbev.data.build import open_frames
from fsdbev.engine.trainer import Trainer
from fsdbev.structures import Boxes3D

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(?:# (?P<file>\S+\.py)\n)?(?P<code>.*?)^```$", re.M | re.S)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Global names of the document's code, with ``recording`` and ``folder``."""
    folder = tmp_path_factory.mktemp("rig")
    shutil.copytree(ROOT / "configs", folder / "configs")
    recording = runpy.run_path(str(ROOT / "docs/examples/fake_recording.py"))
    names = {"recording": recording, "folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        recording["record"](Path("recording"))
        for number, block in enumerate(
            BLOCK.finditer((ROOT / "docs/custom_dataset.md").read_text())
        ):
            code = block["code"]
            if block["file"]:
                Path(block["file"]).write_text(code)
            else:
                exec(compile(code, f"custom_dataset.md, block {number}", "exec"), names)
        yield names


def test_two_steps_are_trained_and_evaluated(example):
    output = example["folder"] / "output/my_rig"
    metrics = example["metrics"]["detection"]
    assert {"mAP", "NDS", "AP_passenger_car", "AP_lorry", "AP_person"} < set(metrics)
    assert (output / "model_final.pth").is_file()
    assert "passenger car" in (output / "report.html").read_text()


@pytest.mark.slow
def test_the_training_of_the_config_reaches_a_score(example, monkeypatch):
    monkeypatch.chdir(example["folder"])
    cfg = LazyConfig.load("configs/my_rig.py")
    cfg.train.output_dir = "output/trained"
    metrics = Trainer(cfg).train()["detection"]
    assert metrics["mAP"] > 0.3 and metrics["NDS"] > 0.4


@pytest.fixture
def rig(example):
    """Opens a split of the example: rig(name, label folder)."""

    def open_split(name="rig_train", labels="point_labels"):
        folder = example["folder"]
        return open_frames(
            name=name,
            index=folder / "prepared" / f"{name}.arrow",
            dataroot=folder / "recording",
            label_dir=labels and folder / "prepared" / labels,
        )

    return open_split


def test_frames_are_not_linked_across_a_gap(rig):
    frames = [rig("rig_val").index[row] for row in range(4)]
    assert [frame.previous for frame in frames] == [-1, 0, -1, 2]
    assert [frame.next for frame in frames] == [1, -1, 3, -1]
    assert frames[0].channels == ("left", "front", "right") and frames[0].reference_camera == 1
    assert frames[0].image_sizes.tolist() == [[640, 480], [800, 600], [512, 512]]


def shares_of_color(dataset, recording, row, group):
    """Returns whether each foreground point of a group has the colour of its class's objects."""
    frame, hits = dataset.index[row], []
    for camera, labels in enumerate(dataset.point_labels(frame)):
        image, points = dataset.image(frame, camera), getattr(labels, group)
        for u, v, class_id in zip(points.u, points.v, points.class_ids, strict=True):
            if class_id >= 0:
                kind = dataset.classes.categories[dataset.classes.names[class_id]][0]
                color = recording["COLORS"][kind]
                hits.append(tuple(image[int(v), int(u)]) == color)
    return hits


@pytest.mark.parametrize("group", ["sweep", "combined", "pseudo"])
def test_labels_are_on_the_objects(example, rig, group):
    """Calibration, poses, boxes and files of the example are consistent: labels have the colours
    of the objects."""
    hits = shares_of_color(rig(), example["recording"], 1, group)
    assert len(hits) >= (1 if group == "pseudo" else 40)
    assert np.mean(hits) > 0.97


def test_without_lidar_there_are_pseudo_points(example, rig):
    dataset = rig("cameras_only", "pseudo_labels")
    labels = dataset.point_labels(dataset.index[1])
    assert sum(len(camera.pseudo) for camera in labels) >= 4
    assert not any(len(camera.sweep) or len(camera.combined) for camera in labels)
    assert all(shares_of_color(dataset, example["recording"], 1, "pseudo"))


@pytest.mark.parametrize("labels", ["pseudo_labels", None])
def test_training_without_lidar(example, rig, labels):
    cfg = LazyConfig.load(str(example["folder"] / "configs/my_rig.py"))
    cfg.dataloader.train.mapper.training = True
    mapper = instantiate(cfg.dataloader.train.mapper)
    sample = mapper(rig("cameras_only", labels), 1, np.random.default_rng(0))
    assert bool(sample["gt_depth"].any()) == (labels is not None)
    losses = instantiate(cfg.model)([sample, sample])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert (losses["loss_depth"] > 0) == (labels is not None)


def test_the_evaluator_scores_ground_truth_as_perfect(example, rig):
    cfg = LazyConfig.load(str(example["folder"] / "configs/my_rig.py"))
    cfg.train.output_dir = str(example["folder"] / "output/perfect")
    evaluator = instantiate(cfg.dataloader.evaluator)
    dataset = rig("rig_val")
    for row in (2, 0, 3, 1):
        frame, objects = dataset.index[row], dataset.index.annotations(row)
        sample = {"sample_token": frame.sample_token, "ego2global": frame.ego2global[None].copy()}
        instances = Instances((192, 256))
        instances.pred_boxes_3d = Boxes3D(torch.tensor(objects.boxes))
        instances.scores = torch.where(torch.from_numpy(objects.has_points), 0.9, 0.1)
        instances.pred_classes = torch.tensor(objects.class_ids.tolist())
        evaluator.process([{**sample, "reference_camera": 1}], [{"instances": instances}])
    metrics = evaluator.evaluate()["detection"]
    assert metrics["mAP"] > 0.99 and metrics["NDS"] > 0.99
