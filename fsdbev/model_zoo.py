"""Configs and released models, for users and other projects such as plugins.

    model = fsdbev.model_zoo.get("NAME")               # built, with weights, in evaluation mode
    config = fsdbev.model_zoo.get_config("NAME")       # or a path such as "common/train.py"

``weights/`` has the released models, each with a model card. Wherever a checkpoint is named, such
as in ``train.init_checkpoint``, ``zoo://NAME`` stands for the weights of a released model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsdbev.d2.config import LazyConfig
from fsdbev.utils.model_cards import ZOO, model_names, read_card

if TYPE_CHECKING:
    from torch import nn

#: Folder next to the package in a clone, which ``pip install -e`` uses in place; wheels do not
#: contain it.
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def get(name: str, *, device: str | None = None) -> nn.Module:
    """Builds a released model and loads its weights.

    Args:
        name: name of the model, that of a card in ``weights/``.
        device: a device as PyTorch names it; None: ``train.device`` of the model's config.

    Returns:
        The model in evaluation mode.

    Raises:
        FileNotFoundError: there is no such model, or its file of weights is missing.
        ValueError: the file is not that of the card, or has only parts of a model.
    """
    # Imported here, because configs import this module and do not need the model's code.
    from fsdbev.config import load_config
    from fsdbev.inference import load_model

    overrides = [] if device is None else [f"train.device={device}"]
    return load_model(load_config(config_path(name), overrides), ZOO + name)


def config_path(name: str) -> str:
    """Returns the path of the config of a released model.

    Raises:
        FileNotFoundError, ValueError: see :func:`.read_card`.
    """
    return str(CONFIGS / read_card(name).config)


def get_config(path: str, keys: tuple[str, ...] | None = None) -> Any:
    """Loads a file of ``configs/``, as in ``get_config("common/train.py").train``.

    Args:
        path: path relative to ``configs/``, or the name of a released model.
        keys: names of values to return as a tuple; None returns a DictConfig of all values.

    Returns:
        The values, without overrides or checks.

    Raises:
        FileNotFoundError: the file does not exist, or the package was installed from a wheel.
        ValueError: the card of the released model is malformed.
    """
    if path in model_names():
        path = read_card(path).config
    file = CONFIGS / path
    if not file.is_file():
        known = sorted(str(f.relative_to(CONFIGS)) for f in CONFIGS.glob("**/*.py"))
        raise FileNotFoundError(
            f"there is no config {path!r}; {CONFIGS} has {', '.join(known)}"
            if known
            else f"there are no configs in {CONFIGS}: install from a clone with pip install -e"
        )
    return LazyConfig.load(str(file), keys)
