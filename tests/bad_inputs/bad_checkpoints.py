"""Checkpoints and configs of other classes than the model's, or with malformed classes."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from bad_theme import Theme
from torch import nn

from fsdbev.checkpoint import TrainingCheckpointer, load_weights, write_weights
from fsdbev.config import load_config
from fsdbev.structures import ClassSet

THEME = Theme(
    "Checkpoints and classes",
    "A checkpoint says the classes of its model. With `--eval-only`, in a predictor and in an "
    "export they must be those of the config, in the same order and the same groups; "
    "[FAQ](faq.md#which-classes-does-a-checkpoint-have) says more.",
)
_MODEL = str(Path(__file__).parents[2] / "configs/common/models/lift_splat_r50.py")
_CLASSES = ClassSet(names=["vehicle", "person"])
_BOTH = "has classes ['vehicle', 'person'], but model.classes has ['person', 'vehicle']; "
_REMEDY = "set model.classes to those of the file, or train a model of the new classes from its"


class _Detector(nn.Module):
    class_layers = ("heads",)

    def __init__(self, classes: ClassSet) -> None:
        super().__init__()
        self.classes = classes
        self.backbone = nn.Linear(1, 1)
        self.heads = nn.ModuleList(nn.Linear(1, len(group.names)) for group in classes.groups)


_REORDERED = _Detector(ClassSet(names=["person", "vehicle"]))
_ONE_GROUP = _Detector(ClassSet(names=["vehicle", "person"], groups=[["vehicle", "person"]]))


def _written(folder: Path, classes: ClassSet | None = _CLASSES, ending: str = ".pth") -> str:
    path = str(folder / f"a{ending}")
    write_weights(_Detector(_CLASSES).state_dict(), path, entry="model", classes=classes)
    return path


@THEME.refused("the same classes in another order", f"a.pth (weights) {_BOTH}{_REMEDY} …")
def _(folder):
    load_weights(_REORDERED, _written(folder), strict=True)


@THEME.refused("the same in a .safetensors file", f"a.safetensors (weights) {_BOTH}{_REMEDY} …")
def _(folder):
    load_weights(_REORDERED, _written(folder, ending=".safetensors"), strict=True)


@THEME.refused(
    "the same classes in other groups",
    "a.pth (weights) has groups [['vehicle'], ['person']], but model.classes has "
    f"[['vehicle', 'person']]; {_REMEDY} …",
)
def _(folder):
    load_weights(_ONE_GROUP, _written(folder), strict=True)


@THEME.refused(
    "`--resume` with other classes",
    f"model_final.pth {_BOTH}a training keeps its classes. To train another model from its "
    "weights, set train.init_checkpoint=…model_final.pth and a new train.output_dir, without",
)
def _(folder):
    TrainingCheckpointer(_Detector(_CLASSES), str(folder)).save("model_final")
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
    "a file without classes, as of the release and of version 0.2",
    "read; its classes are taken to be those of the config",
)
def _(folder):
    load_weights(_REORDERED, _written(folder, classes=None), strict=True)


@THEME.refused(
    "classes that are no mapping, as another program may write",
    "a.pth: its classes can't be read (…); if another program wrote the file, "
    "tools/convert_checkpoint.py --foreign-objects extracts its weights alone",
)
def _(folder):
    torch.save({"model": _REORDERED.state_dict(), "classes": ["vehicle"]}, folder / "a.pth")
    load_weights(_REORDERED, str(folder / "a.pth"), strict=False)


@THEME.refused(
    "classes in the metadata of a .safetensors file that are not JSON",
    "a.safetensors': its metadata fsdbev.classes is not JSON (…)",
)
def _(folder):
    path = str(folder / "a.safetensors")
    safetensors.torch.save_file(
        _REORDERED.state_dict(), path, {"fsdbev.classes": "vehicle, person"}
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
