"""Classes in checkpoints: those of the model, or the layers that depend on them start anew."""

import logging

import pytest
import safetensors.torch
import torch
from torch import nn

from fsdbev.checkpoint import (
    ModelSettings,
    TrainingCheckpointer,
    load_weights,
    read_checkpoint,
    write_weights,
)
from fsdbev.engine.ema import ModelEMA
from fsdbev.structures import ClassSet

VEHICLES = ClassSet(names=["vehicle", "cyclist"])
OTHER_NAMES = ClassSet(names=["cyclist", "vehicle"])
OTHER_GROUPS = ClassSet(names=["vehicle", "cyclist"], groups=[["vehicle", "cyclist"]])
OTHER_RANGES = ClassSet(names=["vehicle", "cyclist"], ranges={"vehicle": 30.0})


class Head(nn.Module):
    class_layers = ("tasks",)

    def __init__(self, classes):
        super().__init__()
        self.shared = nn.Linear(2, 2)
        self.tasks = nn.ModuleList(nn.Linear(2, len(group.names)) for group in classes.groups)


class Detector(nn.Module):
    """A model with one part that depends on the classes; all weights are ``value``."""

    def __init__(self, classes, value=0.0):
        super().__init__()
        self.classes = classes
        self.head = Head(classes)
        for parameter in self.parameters():
            nn.init.constant_(parameter, value)


def saved_by_a_training(folder, model, **parts):
    TrainingCheckpointer(model, str(folder), **parts).save("model_final", iteration=7)
    return str(folder / "model_final.pth")


def written(folder, model, ending):
    path = str(folder / f"weights{ending}")
    settings = ModelSettings.of(model).to_dict()
    write_weights(model.state_dict(), path, entry="model", settings=settings)
    return path


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_of_weights_has_the_classes(tmp_path, ending):
    path = written(tmp_path, Detector(OTHER_RANGES), ending)
    assert read_checkpoint(path)["model_settings"] == {"model.classes": OTHER_RANGES.to_dict()}


def test_a_checkpoint_of_a_training_has_the_classes_and_other_models_have_no_such_entry(tmp_path):
    path = saved_by_a_training(tmp_path, Detector(OTHER_RANGES))
    assert read_checkpoint(path)["model_settings"] == {"model.classes": OTHER_RANGES.to_dict()}
    assert "model_settings" not in read_checkpoint(saved_by_a_training(tmp_path, nn.Linear(1, 1)))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            OTHER_NAMES,
            r'(?s)weights\.\w+ .*  model\.classes\.names: \["vehicle", "cyclist"\] in the file, '
            r'\["cyclist", "vehicle"\] in the config',
        ),
        (
            OTHER_GROUPS,
            r'\.groups: \[\["vehicle"\], \["cyclist"\]\] in the file, \[\["vehicle", "cyc',
        ),
    ],
)
def test_a_strict_load_refuses_other_classes_and_lists_both(tmp_path, ending, classes, message):
    path, model = written(tmp_path, Detector(VEHICLES, 1.0), ending), Detector(classes)
    with pytest.raises(ValueError, match=message) as error:
        load_weights(model, path, strict=True)
    assert "train.init_checkpoint" in str(error.value)
    assert model.head.shared.weight.sum() == 0


@pytest.mark.parametrize("strict", [True, False])
def test_ranges_may_differ_and_older_files_say_no_classes(tmp_path, caplog, strict):
    older = str(tmp_path / "older.pth")
    torch.save({"model": Detector(VEHICLES, 1.0).state_dict()}, older)
    for path in (written(tmp_path, Detector(OTHER_RANGES, 1.0), ".pth"), older):
        model = Detector(VEHICLES)
        with caplog.at_level(logging.INFO, logger="fsdbev.checkpoint.weights"):
            load_weights(model, path, strict=strict)
        assert all((value == 1).all() for value in model.state_dict().values())
    assert "anew" not in caplog.text
    assert ("older.pth (weights) do not say their settings: the config's" in caplog.text) is strict


@pytest.mark.parametrize("classes", [OTHER_NAMES, OTHER_GROUPS])
def test_layers_that_depend_on_the_classes_start_anew(tmp_path, caplog, classes):
    """Also those whose shapes fit; the log lists them once and does not call them missing."""
    path, model = written(tmp_path, Detector(VEHICLES, 1.0), ".pth"), Detector(classes)
    with caplog.at_level(logging.WARNING, logger="fsdbev.checkpoint.weights"):
        report = load_weights(model, path, strict=False)
    assert (model.head.shared.weight == 1).all()
    assert all((value == 0).all() for value in model.head.tasks.state_dict().values())
    assert report.num_problems() == 0
    (record,) = caplog.records
    assert record.getMessage().endswith("These layers start anew: head.tasks")
    assert '["vehicle"' in record.getMessage()


def test_averaged_weights_start_anew_too(tmp_path):
    trained, model = Detector(VEHICLES), Detector(OTHER_NAMES, 3.0)
    average = ModelEMA(trained)
    nn.init.constant_(average.model.head.shared.weight, 2.0)
    path = saved_by_a_training(tmp_path, trained, ema=average)
    ema = ModelEMA(model)
    load_weights(model, path, strict=False)
    ema.reset()
    assert (ema.model.head.shared.weight == 2).all()
    assert all((value == 3).all() for value in ema.model.head.tasks.state_dict().values())


class Bigger(Detector):
    def __init__(self, classes):
        super().__init__(classes)
        self.extra = nn.Linear(1, 1)


def with_optimizer(model):
    return {"optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}


def with_frozen_layer(model):
    return {"optimizer": torch.optim.SGD(model.head.shared.parameters(), lr=0.1)}


@pytest.mark.parametrize(
    ("model", "parts", "message"),
    [
        (Bigger(VEHICLES), with_optimizer, "not in the file: extra 2"),
        (
            Detector(OTHER_NAMES),
            with_optimizer,
            r'\["vehicle", "cyclist"\].*\["cyclist", "vehicle"',
        ),
        (Detector(VEHICLES), with_frozen_layer, "parameter group"),
        (Detector(VEHICLES), lambda model: {"ema": ModelEMA(model)}, "has no ema"),
    ],
    ids=["weights", "classes", "optimizer", "part"],
)
def test_resuming_another_model_names_the_remedy(tmp_path, model, parts, message):
    trained = Detector(VEHICLES)
    path = saved_by_a_training(tmp_path, trained, **with_optimizer(trained))
    remedy = rf"train\.init_checkpoint={path} and a new train\.output_dir, without --resume"
    with pytest.raises(ValueError, match=rf"(?s){message}.*{remedy}"):
        TrainingCheckpointer(model, str(tmp_path), **parts(model)).resume_or_load("", resume=True)


def test_resuming_the_same_model(tmp_path):
    saved_by_a_training(tmp_path, Detector(VEHICLES, 1.0))
    model = Detector(OTHER_RANGES)
    rest = TrainingCheckpointer(model, str(tmp_path)).resume_or_load("", resume=True)
    assert rest == {"iteration": 7} and (model.head.shared.weight == 1).all()


@pytest.mark.parametrize(
    "content",
    [
        "vehicle",
        ["vehicle"],
        {"model.grid.cell": torch.zeros(2)},
        {"model.classes": ["vehicle"]},
        {"model.classes": {"names": [1]}},
        {"model.classes": {"colour": "red"}},
    ],
)
def test_malformed_settings_name_the_file_and_a_remedy(tmp_path, content):
    path = str(tmp_path / "other.pth")
    torch.save({"model": Detector(VEHICLES).state_dict(), "model_settings": content}, path)
    with pytest.raises(ValueError, match=r"other\.pth: its settings.*--foreign-objects"):
        load_weights(Detector(VEHICLES), path, strict=False)


def test_metadata_that_is_not_json_is_refused(tmp_path):
    path = str(tmp_path / "other.safetensors")
    weights = Detector(VEHICLES).state_dict()
    safetensors.torch.save_file(weights, path, {"fsdbev.model_settings": "[" * 100_000})
    with pytest.raises(ValueError, match=r"other\.safetensors.*fsdbev\.model_settings is not JSON"):
        read_checkpoint(path)
