"""Checkpoints and configs of other classes and settings than the model's, or malformed ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from bad_theme import Theme
from torch import nn

from fsdbev.checkpoint import ModelSettings, TrainingCheckpointer, load_weights, write_weights
from fsdbev.config import load_config
from fsdbev.structures import ClassSet, DepthBins

THEME = Theme(
    "Checkpoints and settings",
    "A checkpoint contains the settings on which the meaning of its weights depends. With "
    "`--resume`, `--eval-only`, in a predictor and in an export they must be those of the config; "
    "[FAQ](faq.md#which-settings-does-a-checkpoint-contain) says more.",
)
_MODEL = str(Path(__file__).parents[2] / "configs/common/models/lift_splat_r50.py")
_CLASSES = ClassSet(names=["vehicle", "person"])
_OTHER = "trained with other settings than the config's…"
_BOTH = (
    f'{_OTHER}model.classes.names: ["vehicle", "person"] in the file, ["person", "vehicle"] in …'
)
_REMEDY = (
    "Give the config the file's values, or start a training with the config's from these weights "
    "(train.init_checkpoint); train.checkpoint_settings=warn makes this a warning"
)


class _Detector(nn.Module):
    class_layers = ("heads",)

    def __init__(self, classes: ClassSet, bins: DepthBins | None = None) -> None:
        super().__init__()
        self.classes = classes
        self.saved_settings = {"depth_bins": bins or DepthBins(1.0, 41.0, 1.0)}
        self.backbone = nn.Linear(1, 1)
        self.heads = nn.ModuleList(nn.Linear(1, len(group.names)) for group in classes.groups)


_TRAINED = _Detector(_CLASSES)
_REORDERED = _Detector(ClassSet(names=["person", "vehicle"]))
_ONE_GROUP = _Detector(ClassSet(names=["vehicle", "person"], groups=[["vehicle", "person"]]))
_OTHER_BINS = _Detector(_CLASSES, DepthBins(13.0, 53.0, 1.0))


def _written(folder: Path, ending: str = ".pth", has_settings: bool = True) -> str:
    path = str(folder / f"a{ending}")
    settings = ModelSettings.of(_TRAINED).to_dict() if has_settings else None
    write_weights(_TRAINED.state_dict(), path, entry="model", settings=settings)
    return path


@THEME.refused(
    "other depth bins, of the same number",
    f"a.pth (weights): {_OTHER}model.depth_bins.start: 1.0 in the file, 13.0 in the config…"
    f"model.depth_bins.stop: 41.0 in the file, 53.0 in the config…{_REMEDY}",
)
def _(folder):
    load_weights(_OTHER_BINS, _written(folder), strict=True)


@THEME.handled(
    "the same with `train.checkpoint_settings=warn`",
    "the weights are loaded, and a warning lists the settings",
)
def _(folder):
    settings = replace(ModelSettings.of(_OTHER_BINS), on_difference="warn")
    load_weights(_OTHER_BINS, _written(folder), strict=True, settings=settings)


@THEME.refused(
    "`train.checkpoint_settings` with another value",
    "train.checkpoint_settings must be error or warn, got 'ignore'",
)
def _(folder):
    ModelSettings({}, on_difference="ignore")


@THEME.refused("the same classes in another order", f"a.pth (weights): {_BOTH}{_REMEDY}")
def _(folder):
    load_weights(_REORDERED, _written(folder), strict=True)


@THEME.refused("the same in a .safetensors file", f"a.safetensors (weights): {_BOTH}{_REMEDY}")
def _(folder):
    load_weights(_REORDERED, _written(folder, ".safetensors"), strict=True)


@THEME.refused(
    "the same classes in other groups",
    f'a.pth (weights): {_OTHER}model.classes.groups: [["vehicle"], ["person"]] in the file, '
    f'[["vehicle", "person"]] in the config…{_REMEDY}',
)
def _(folder):
    load_weights(_ONE_GROUP, _written(folder), strict=True)


@THEME.refused(
    "`--resume` with other settings",
    f"model_final.pth: {_BOTH}A training keeps its settings; train.checkpoint_settings=warn makes "
    "this a warning. To train another model from its weights, set train.init_checkpoint=…"
    "model_final.pth and a new train.output_dir, without",
)
def _(folder):
    TrainingCheckpointer(_TRAINED, str(folder)).save("model_final")
    TrainingCheckpointer(_REORDERED, str(folder)).resume_or_load("", resume=True)


@THEME.refused(
    "`--resume` with other layers",
    "model_final.pth does not fit the model. not in the file: … To train another model from its "
    "weights, set train.init_checkpoint=…model_final.pth and a new train.output_dir, without",
)
def _(folder):
    TrainingCheckpointer(nn.Sequential(nn.Linear(1, 1)), str(folder)).save("model_final")
    deeper = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    TrainingCheckpointer(deeper, str(folder)).resume_or_load("", resume=True)


@THEME.handled(
    "`train.init_checkpoint` of other classes",
    "the layers that depend on the classes start anew, and the log lists them",
)
def _(folder):
    before = _REORDERED.heads[0].weight.clone()
    load_weights(_REORDERED, _written(folder), strict=False)
    assert torch.equal(_REORDERED.heads[0].weight, before)


@THEME.handled(
    "a file without settings, as of the release and of version 0.2",
    "read; its settings are taken to be those of the config",
)
def _(folder):
    load_weights(_REORDERED, _written(folder, has_settings=False), strict=True)


@THEME.handled(
    "`train.init_checkpoint` of another geometry",
    "the weights are loaded, and a warning lists the settings",
)
def _(folder):
    report = load_weights(_OTHER_BINS, _written(folder), strict=False)
    assert report.num_problems() == 0


@THEME.refused(
    "settings that are no mapping, as another program may write",
    "a.pth: its settings can't be read (…); if another program wrote the file, "
    "tools/convert_checkpoint.py --foreign-objects extracts its weights alone",
)
def _(folder):
    torch.save({"model": _REORDERED.state_dict(), "model_settings": ["vehicle"]}, folder / "a.pth")
    load_weights(_REORDERED, str(folder / "a.pth"), strict=False)


@THEME.refused(
    "settings in the metadata of a .safetensors file that are not JSON",
    "a.safetensors': its metadata fsdbev.model_settings is not JSON (…)",
)
def _(folder):
    path = str(folder / "a.safetensors")
    safetensors.torch.save_file(
        _REORDERED.state_dict(), path, {"fsdbev.model_settings": "vehicle, person"}
    )
    load_weights(_REORDERED, path, strict=True)


@THEME.refused(
    "a saved config.yaml without `model.classes`",
    "model.classes is missing: a config says which classes its model detects, …--print-config",
)
def _(folder):
    path = folder / "config.yaml"
    path.write_text("model: {_target_: fsdbev.modeling.build_meta_arch, name: FSDBEV}")
    load_config(str(path))


@THEME.refused(
    "`model.head.tasks` in a config",
    "model.head.tasks: replaced by model.classes.groups: names of the classes, …",
)
def _(folder):
    path = folder / "config.yaml"
    path.write_text("model: {head: {tasks: []}}")
    load_config(str(path))


@THEME.refused(
    "a group on the command line with a mistyped key",
    "override …: mappings of model.classes.groups have the keys names, …, got 'nams'",
)
def _(folder):
    load_config(_MODEL, ["model.classes.groups=[{nams: [car]}]"])
