"""Released models: a model card ``weights/<name>.yaml`` beside each file of weights.

The folder is the list of the released models: there is no other registry. A checkpoint path
``zoo://<name>`` stands for the weights of a model (:class:`ZooHandler`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from iopath.common.file_io import PathHandler

from .plain_file import open_file, read_bytes
from .plain_yaml import parse_yaml

#: Prefix of a checkpoint path that names a released model.
ZOO = "zoo://"
#: Folder of the cards next to the package in a clone, which ``pip install -e`` uses in place;
#: wheels do not contain it.
WEIGHTS = Path(__file__).resolve().parents[2] / "weights"

_ENDING = ".safetensors"
_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class ModelCard:
    """Model card of a released model: the keys of its YAML file.

    Attributes:
        about: what the model is and is for.
        config: config of the model, relative to ``configs/``.
        sha256: SHA-256 of the file of weights, hexadecimal.
        data: training data.
        command: commands that trained the model.
        hours: duration of the training and the machine.
        licence: licence of the weights.
        metrics: name -> value; empty if the model is evaluated as a part of others only.
    """

    about: str
    config: str
    sha256: str
    data: str
    command: str
    hours: str
    licence: str
    metrics: Mapping[str, float] = field(default_factory=dict)


def model_names() -> list[str]:
    """Returns the names of the released models."""
    return sorted(path.stem for path in WEIGHTS.glob("*.yaml"))


def read_card(name: str) -> ModelCard:
    """Reads the card of a released model.

    Raises:
        FileNotFoundError: there is no such model, or the package was installed from a wheel.
        ValueError: the card cannot be parsed, or a key is missing, unknown or of another type.
    """
    names = model_names()
    if name not in names:
        raise FileNotFoundError(
            f"there is no released model {name!r}; {WEIGHTS} has {', '.join(names)}"
            if names
            else f"there are no released models in {WEIGHTS}: install from a clone with "
            "pip install -e"
        )
    path = WEIGHTS / f"{name}.yaml"
    try:
        content = parse_yaml(read_bytes(path, _MAX_BYTES).decode())
        _check(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return ModelCard(**content)


def _check(content: object) -> None:
    """Raises a ValueError if the content of a card does not have the keys of :class:`ModelCard`."""
    keys = {each.name: each.default_factory is MISSING for each in fields(ModelCard)}
    content = content if isinstance(content, dict) else {}
    if missing := [key for key, needed in keys.items() if needed and key not in content]:
        names = ", ".join(missing)
        raise ValueError(f"{names} is missing; a model card has the keys {', '.join(keys)}")
    for key, value in content.items():
        if key not in keys:
            raise ValueError(f"unknown key {key!r}; a model card has the keys {', '.join(keys)}")
        expected, kind = (dict, "a mapping") if key == "metrics" else (str, "text")
        if not isinstance(value, expected):
            raise ValueError(f"{key} must be {kind}, got {value!r:.100}")


def checked_weights(name: str) -> Path:
    """Returns the file of weights of a released model.

    Raises:
        FileNotFoundError: there is no such model, or its file is missing.
        ValueError: the file is not the one of the card, or see :func:`read_card`.
    """
    expected, path = read_card(name).sha256, WEIGHTS / f"{name}{_ENDING}"
    remedy = f"restore it with git checkout -- {WEIGHTS.name}/{path.name}"
    digest = hashlib.sha256()
    with open_file(path, missing=f"no such file; {remedy}") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise ValueError(
            f"{path} is not the file of its model card: its SHA-256 is {digest.hexdigest()}, the "
            f"card has {expected}; {remedy}"
        )
    return path


class ZooHandler(PathHandler):
    """Path handler of ``zoo://<name>``, for iopath's ``PathManager``."""

    def _get_supported_prefixes(self) -> list[str]:
        return [ZOO]

    def _get_local_path(self, path: str, force: bool = False, **kwargs) -> str:
        return str(checked_weights(path.removeprefix(ZOO)))

    def _isfile(self, path: str, **kwargs) -> bool:
        return path.removeprefix(ZOO) in model_names()
