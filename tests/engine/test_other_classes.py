"""Trainings and evaluations whose classes differ from those of the data or of the checkpoint, or
whose other settings differ from those of the checkpoint."""

import json
import logging
import re
from pathlib import Path

import export_model
import pytest
import torch

import fsdbev
from fsdbev.checkpoint import read_checkpoint
from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.engine import run
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/fsdbev_tiny_synthetic.py"
SMALLER = [
    "train.device=cpu",
    "dataloader.image_size=[32,64]",
    "dataloader.train.total_batch_size=1",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "model.grid.cell=7.0",
    "train.max_iter=1",
    "train.report.enabled=false",
]
KEYS = ("dataloader", "lr_multiplier", "model", "optimizer", "train")
#: As many classes and groups as nuScenes has, so that all shapes fit.
RENAMED = ClassSet(
    names=[f"my_{name}" for name in NUSCENES_CLASSES.names],
    groups=[[f"my_{name}" for name in group.names] for group in NUSCENES_CLASSES.groups],
    categories={f"my_{name}": c for name, c in NUSCENES_CLASSES.categories.items()},
)


@pytest.fixture(scope="module")
def train_net(synthetic_root, tmp_path_factory):
    """Runs the command with a small model of ``classes`` on data that was prepared with ``data``:
    ``train_net(output, *overrides, options, classes, data)``."""
    folder = tmp_path_factory.mktemp("renamed")
    names = {"version": "v1.0-synth", "output": folder / "index", "classes": RENAMED}
    prepare_nuscenes(dataroot=synthetic_root, **names)
    config = folder / "renamed.py"
    config.write_text(
        "from fsdbev.d2.config import LazyCall as L\n"
        "from fsdbev.model_zoo import get_config\n"
        "from fsdbev.structures import ClassSet\n"
        f"{', '.join(KEYS)} = get_config({CONFIG.name!r}, {KEYS})\n"
        f"model.classes = L(ClassSet)(**{RENAMED.to_dict()})\n"
    )
    configs = {"nuscenes": CONFIG, "renamed": config}
    index_dirs = {"nuscenes": synthetic_root / "fsdbev/v1.0-synth", "renamed": folder / "index"}

    def train_net(output, *overrides, options=(), classes="nuscenes", data=None):
        paths = [f"dataloader.dataroot={synthetic_root}", f"train.output_dir={output}"]
        paths.append(f"dataloader.index_dir={index_dirs[data or classes]}")
        run(["--config-file", str(configs[classes]), *options, *paths, *SMALLER, *overrides])

    return train_net


@pytest.fixture(scope="module")
def trained(train_net, tmp_path_factory):
    """Output folder of a training with nuScenes' classes. Shared: do not write to it."""
    output = tmp_path_factory.mktemp("trained")
    train_net(output, "dataloader.evaluator=null")
    return output


IN_DATA = r"has classes \['car', .*model\.classes has \['my_car', "
IN_FILE = r'model\.classes\.names: \["car", .*in the file, \["my_car", .* in the config'


@pytest.mark.parametrize("options", [(), ("--resume",), ("--eval-only",)])
def test_data_of_other_classes_is_refused(train_net, tmp_path, options):
    """Also if the data set is opened without the classes of the model, as a data set of one's own
    may be."""
    untrained = "train.init_checkpoint="
    for overrides in ((untrained,), (untrained, "dataloader.classes=null")):
        with pytest.raises(ValueError, match=IN_DATA):
            train_net(tmp_path, *overrides, options=options, classes="renamed", data="nuscenes")


def test_a_checkpoint_of_other_classes_is_refused(train_net, trained, tmp_path):
    remedy = r".*train\.init_checkpoint=.*model_final\.pth and a new train\.output_dir"
    with pytest.raises(ValueError, match=f"(?s){IN_FILE}{remedy}"):
        train_net(trained, options=["--resume"], classes="renamed")
    for name in ("model_final.pth", "model_final.safetensors"):
        weights = trained / name
        with pytest.raises(ValueError, match=f"(?s){name} .*{IN_FILE}"):
            train_net(
                tmp_path,
                f"train.init_checkpoint={weights}",
                options=["--eval-only"],
                classes="renamed",
            )


def test_predictor_and_export_refuse_a_checkpoint_of_other_classes(trained, tmp_path, capsys):
    names = f"model.classes.names={list(reversed(NUSCENES_CLASSES.names))}".replace("'", "")
    overrides, weights = [*SMALLER, names], str(trained / "model_final.pth")
    message = r'model\.classes\.names: \["car", .* in the file, \["traffic_cone", '
    with pytest.raises(ValueError, match=message):
        fsdbev.Predictor(str(CONFIG), weights, overrides=overrides)
    options = ["--config-file", str(CONFIG), "--weights", weights, "--output", str(tmp_path)]
    assert export_model.main([*options, *overrides]) == 1
    assert re.search(message, capsys.readouterr().err)


#: Changes that keep all shapes, and the messages.
GEOMETRY = {
    "model.depth_bins.start=13.0": "model.depth_bins.start: 1.0 in the file, 13.0 in the config",
    "model.depth_bins.stop=53.0": "model.depth_bins.stop: 41.0 in the file, 53.0 in the config",
    "model.grid.z_range=[-4.0,4.0]": "model.grid.z_range: [-5.0, 3.0] in the file, [-4.0, 4.0] in",
    "model.pixel_mean=[0.0,0.0,0.0]": "model.pixel_mean: [123.675, 116.28, 103.53] in the file, [0",
    "dataloader.image_size=[32,96]": "dataloader.image_size: [32, 64] in the file, [32, 96] in the",
    "dataloader.frame_spacing=2": "dataloader.frame_spacing: 1 in the file, 2 in the config",
}


def test_a_checkpoint_of_another_geometry_is_refused(train_net, trained, tmp_path, capsys):
    """By --resume, --eval-only, predictor and export; the message lists all differences."""
    weights = str(trained / "model_final.safetensors")
    evaluate = [f"train.init_checkpoint={weights}", *GEOMETRY]
    with pytest.raises(ValueError) as resumed:
        train_net(trained, *GEOMETRY, options=["--resume"])
    with pytest.raises(ValueError) as evaluated:
        train_net(tmp_path, *evaluate, options=["--eval-only"])
    with pytest.raises(ValueError) as predicted:
        fsdbev.Predictor(str(CONFIG), weights, overrides=[*SMALLER, *GEOMETRY])
    options = ["--config-file", str(CONFIG), "--weights", weights, "--output", str(tmp_path)]
    assert export_model.main([*options, *SMALLER, *GEOMETRY]) == 1
    found = [str(error.value) for error in (resumed, evaluated, predicted)]
    for text in (*found, capsys.readouterr().err):
        assert [message for message in GEOMETRY.values() if message not in text] == []
        assert text.count(" in the file, ") == len(GEOMETRY)
        assert "train.checkpoint_settings=warn makes this a warning" in text


def test_the_option_makes_another_geometry_a_warning(train_net, trained, tmp_path, caplog):
    logging.getLogger("fsdbev").addHandler(caplog.handler)
    weights = f"train.init_checkpoint={trained / 'model_final.safetensors'}"
    warn = ["dataloader.evaluator=null", "train.checkpoint_settings=warn"]
    train_net(tmp_path, weights, *warn, *GEOMETRY, options=["--eval-only"])
    assert [message for message in GEOMETRY.values() if message not in caplog.text] == []


def test_initial_weights_of_another_geometry_are_a_warning(train_net, trained, tmp_path, caplog):
    logging.getLogger("fsdbev").addHandler(caplog.handler)
    weights = f"train.init_checkpoint={trained / 'model_final.safetensors'}"
    train_net(tmp_path, weights, "dataloader.evaluator=null", *GEOMETRY)
    assert [message for message in GEOMETRY.values() if message not in caplog.text] == []
    assert "anew" not in caplog.text
    settings = read_checkpoint(str(tmp_path / "model_final.pth"))["model_settings"]
    assert settings["model.depth_bins.start"] == 13.0


def test_initial_weights_of_other_classes(train_net, trained, tmp_path, caplog):
    """The other layers are loaded, those of the classes start anew, and so does their average."""
    overrides = ["train.ema.decay=0.0", "optimizer.lr=0.0", "optimizer.weight_decay=0.0"]
    weights = f"train.init_checkpoint={trained / 'model_final.safetensors'}"
    logging.getLogger("fsdbev").addHandler(caplog.handler)
    train_net(tmp_path, weights, *overrides, classes="renamed")
    log = caplog.text
    assert log.count("These layers start anew: msfe.heatmap_head, head.task_heads") == 1
    assert "not in the file" not in log and "of another shape" not in log
    files = [read_checkpoint(str(folder / "model_final.pth")) for folder in (trained, tmp_path)]
    before, after = (file["ema"]["model"] for file in files)
    name = "head.task_heads.0.heatmap.1.weight"
    assert not torch.equal(before[name], after[name])
    name = "backbone.conv1.weight"
    assert torch.equal(before[name], after[name])
    assert files[1]["model_settings"]["model.classes"] == RENAMED.to_dict()
    assert "AP_my_car" in json.loads((tmp_path / "evaluation.json").read_text())["nuscenes"]
