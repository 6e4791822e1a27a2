"""Settings in checkpoints that change the meaning of weights but not their shapes."""

import logging

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from fsdbev.checkpoint import (
    ModelSettings,
    TrainingCheckpointer,
    load_weights,
    read_checkpoint,
    write_weights,
)
from fsdbev.structures import BEVGrid, ClassSet, DepthBins


class Part(nn.Module):
    def __init__(self, dilations):
        super().__init__()
        self.saved_settings = {"dilations": dilations}
        self.layer = nn.Linear(1, 1)


class Detector(nn.Module):
    def __init__(self, *, start=1.0, dilations=(1, 2), num_frames=2, value=0.0):
        super().__init__()
        self.num_frames = num_frames
        self.classes = ClassSet(names=["vehicle"])
        bins = DepthBins(start, start + 4, 1)
        self.saved_settings = {"grid": BEVGrid(), "depth_bins": bins, "pixel_mean": [1.5, 2, 3]}
        self.encoder = Part(dilations)
        for parameter in self.parameters():
            nn.init.constant_(parameter, value)


def config(option="error", **mapper):
    mapper = {"image_aug": {"image_size": [8, 16]}, "frame_interval": None, **mapper}
    cfg = {"train": {"checkpoint_settings": option}, "dataloader": {"test": {"mapper": mapper}}}
    return OmegaConf.create(cfg)


def written(folder, settings, ending=".pth"):
    path = str(folder / f"weights{ending}")
    state = Detector(value=1.0).state_dict()
    write_weights(state, path, entry="model", settings=settings.to_dict())
    return path


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_has_the_settings_of_model_parts_and_data(tmp_path, ending):
    model = Detector()
    settings = ModelSettings.of(model, config(frame_spacing=2))
    saved = read_checkpoint(written(tmp_path, settings, ending))["model_settings"]
    assert saved == {
        "model.classes": model.classes.to_dict(),
        "model.grid.x_range": [-51.2, 51.2],
        "model.grid.y_range": [-51.2, 51.2],
        "model.grid.z_range": [-5.0, 3.0],
        "model.grid.cell": 0.8,
        "model.depth_bins.start": 1.0,
        "model.depth_bins.stop": 5.0,
        "model.depth_bins.step": 1,
        "model.pixel_mean": [1.5, 2, 3],
        "model.encoder.dilations": [1, 2],
        "dataloader.image_size": [8, 16],
        "dataloader.frame_interval": None,
        "dataloader.frame_spacing": 2,
    }
    assert ModelSettings.from_dict(saved, "a.pth") == settings


def test_settings_without_effect_are_left_out():
    """The spacing beside an interval; both for a model of one frame; the mapper of other data."""
    by_time = ModelSettings.of(Detector(), config(frame_spacing=2, frame_interval=0.5))
    assert by_time.values["dataloader.frame_spacing"] is None
    one_frame = ModelSettings.of(Detector(num_frames=1), config(frame_spacing=2))
    assert "dataloader.frame_spacing" not in one_frame.values
    assert ModelSettings.of(nn.Linear(1, 1), config()).to_dict().keys() == {
        "dataloader.image_size",
        "dataloader.frame_interval",
    }
    cfg = OmegaConf.create({"train": {}, "dataloader": {"test": {"length": 3}}})
    assert ModelSettings.of(nn.Linear(1, 1), cfg).to_dict() == {}


CHANGES = {
    "bins": (Detector(start=13.0), {}, "model.depth_bins.start: 1.0 in the file, 13.0 in the conf"),
    "part": (Detector(dilations=(1, 4)), {}, "model.encoder.dilations: [1, 2] in the file, [1, 4]"),
    "image": (
        Detector(),
        {"image_aug": {"image_size": [8, 32]}},
        "dataloader.image_size: [8, 16] in the file, [8, 32] in the config",
    ),
    "spacing": (Detector(), {"frame_spacing": 5}, "dataloader.frame_spacing: 1 in the file, 5 in"),
    "interval": (
        Detector(),
        {"frame_interval": 0.5},
        "dataloader.frame_interval: null in the file, 0.5 in the config",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_setting_is_an_error_or_a_warning(tmp_path, caplog, name):
    path = written(tmp_path, ModelSettings.of(Detector(), config(frame_spacing=1)))
    model, mapper, message = CHANGES[name]
    nn.init.zeros_(model.encoder.layer.weight)
    mapper = {"frame_spacing": 1, **mapper}
    with pytest.raises(ValueError, match=r"weights\.pth .*\n(?s:.*)checkpoint_settings=w") as error:
        load_weights(model, path, strict=True, settings=ModelSettings.of(model, config(**mapper)))
    assert message in str(error.value) and model.encoder.layer.weight == 0

    settings = ModelSettings.of(model, config("warn", **mapper))
    load_weights(model, path, strict=True, settings=settings)
    assert message in caplog.text and model.encoder.layer.weight == 1


def test_initial_weights_of_other_settings_are_a_warning(tmp_path, caplog):
    path = written(tmp_path, ModelSettings.of(Detector()))
    model = Detector(start=13.0)
    with caplog.at_level(logging.WARNING, logger="fsdbev.checkpoint"):
        load_weights(model, path, strict=False)
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert model.encoder.layer.weight == 1
    text = record.getMessage()
    assert "model.depth_bins.start: 1.0 in the file, 13.0" in text and "stop: 5.0 in" in text
    assert "anew" not in text


def test_resuming_with_other_settings(tmp_path, caplog):
    TrainingCheckpointer(Detector(value=1.0), str(tmp_path)).save("model_final", iteration=7)
    model = Detector(start=13.0)
    with pytest.raises(ValueError, match=r"(?s)1\.0 in the file, 13\.0 in.*without --resume"):
        TrainingCheckpointer(model, str(tmp_path)).resume_or_load("", resume=True)
    settings = ModelSettings.of(model, config("warn"))
    checkpointer = TrainingCheckpointer(model, str(tmp_path), settings=settings)
    assert checkpointer.resume_or_load("", resume=True) == {"iteration": 7}
    assert "1.0 in the file, 13.0 in" in caplog.text and model.encoder.layer.weight == 1


def test_settings_that_a_file_or_model_does_not_have_are_not_compared(tmp_path):
    path = str(tmp_path / "older.pth")
    for content in ({}, {"model_settings": {"model.old": 1, "model.depth_bins.stop": 17.0}}):
        torch.save({"model": Detector(value=1.0).state_dict(), **content}, path)
        load_weights(Detector(start=13.0), path, strict=True)


def test_the_option_has_two_values():
    with pytest.raises(ValueError, match="checkpoint_settings must be error or warn, got 'no'"):
        ModelSettings.of(Detector(), config("no"))
