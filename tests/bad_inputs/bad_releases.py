"""Released models (``zoo://``) and their cards, and the options of the demo that uses one."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import demo
import torch
from bad_theme import Theme
from made_zoo import write_model

from fsdbev.checkpoint import read_weights, to_half
from fsdbev.utils import model_cards

THEME = Theme(
    "Released models",
    "Names of released models, such as `train.init_checkpoint=zoo://NAME`, their files in "
    "`weights/`, and options of `tools/demo.py`.",
)


def read(folder: Path, name: str = "street", **card) -> None:
    """Reads a released model from a folder with the model ``street``."""
    if not (folder / "street.safetensors").exists():
        write_model(folder, "street", {"backbone.weight": torch.ones(2, 2)}, **card)
    with patch.object(model_cards, "WEIGHTS", folder):
        read_weights(f"zoo://{name}")


@THEME.refused(
    "an unknown name", "there is no released model 'streat'; … has street", FileNotFoundError
)
def _(folder):
    read(folder, "streat")


@THEME.refused(
    "a package installed without the models",
    "there are no released models in …: install from a clone with pip install -e",
    FileNotFoundError,
)
def _(folder):
    with patch.object(model_cards, "WEIGHTS", folder):
        read_weights("zoo://street")


@THEME.refused(
    "a card without its file of weights",
    "street.safetensors: no such file; restore it with git checkout -- …street.safetensors",
    FileNotFoundError,
)
def _(folder):
    read(folder)
    (folder / "street.safetensors").rename(folder / "other.safetensors")
    with patch.object(model_cards, "WEIGHTS", folder):
        read_weights("zoo://street")


@THEME.refused(
    "a damaged or exchanged file of weights",
    "street.safetensors is not the file of its model card: its SHA-256 is …, the card has …; "
    "restore it with git checkout -- …street.safetensors",
)
def _(folder):
    read(folder, sha256="0" * 64)


@THEME.refused(
    "a card without a key", "street.yaml: licence is missing; a model card has the keys about, …"
)
def _(folder):
    read(folder, licence=None)


@THEME.refused(
    "a card with a mistyped key",
    "street.yaml: unknown key 'metric'; a model card has the keys about, …",
)
def _(folder):
    read(folder, metric={"mAP": 0.6})


@THEME.refused("a number for text in a card", "street.yaml: hours must be text, got 3")
def _(folder):
    read(folder, hours=3)


@THEME.refused(
    "a weight that is too large for the conversion with `--half`",
    "neck.weight: 7e+04 is not within the range of float16 (65504)",
)
def _(folder):
    to_half({"neck.weight": torch.full((2, 2), 7e4)})


def check_demo(*arguments: str) -> None:
    demo.check_options(demo.parse_arguments(arguments))


@THEME.refused(
    "`tools/demo.py --rig` without images or videos",
    "--rig is for --images or --video, and neither is given",
)
def _(folder):
    check_demo("--rig", "rig.yaml")


@THEME.refused(
    "`tools/demo.py --images` without a rig",
    "--images and --video need the cameras: --rig FILE",
)
def _(folder):
    check_demo("--images", "drive")


@THEME.refused(
    "`tools/demo.py --weights` of a file without its config",
    "--weights model.pth needs the --config-file of its training",
)
def _(folder):
    check_demo("--weights", "model.pth")


@THEME.refused(
    "`tools/demo.py --config-file` without weights",
    "--config-file tiny.py needs the --weights of its model",
)
def _(folder):
    check_demo("--config-file", "tiny.py")
