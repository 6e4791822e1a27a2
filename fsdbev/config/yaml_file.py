"""YAML configs: data, which may be a stranger's. Beside the rules of ``fsdbev.utils.plain_yaml``
(no tags, no aliases, no key twice) these hold:

- ``_target_``, and the ``path`` of ``hydra.utils.get_object``, name classes and functions that are
  defined in one of ``CALLABLE`` or in a plugin that the command line names.
- ``train.plugins`` names modules of ``projects`` alone; others are named on the command line.
- ``${key}`` and ``${..key}`` refer to other values, as in a ``.py`` config. There are no resolvers
  (``${oc.env:HOME}``), and no references inside of a longer text.

A ``.py`` config is a program, and is run as one.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from fsdbev.utils.plain_file import read_bytes
from fsdbev.utils.plain_yaml import check_size, parse_yaml, values_of

#: Modules whose public classes and functions a YAML config may call, with those inside of them.
CALLABLE = (
    "detectron2.layers",
    "detectron2.modeling",
    "detectron2.solver",
    "fsdbev.data.build",
    "fsdbev.data.mapper",
    "fsdbev.data.samplers",
    "fsdbev.data.transforms",
    "fsdbev.engine.optim",
    "fsdbev.evaluation.nuscenes_evaluator",
    "fsdbev.modeling",
    "fsdbev.structures",
    "fvcore.common.param_scheduler",
    "projects",
    "torch.dtype",
    "torch.nn.modules",
    "torch.optim",
)
MAX_BYTES = 250_000  # of a file; our own configs have 8 kB
MAX_VALUES = 10_000  # with a reference's values counted where it stands; our own have 350
_REFERENCE = re.compile(r"\$\{\.*\w+(\.\w+)*\}")


def read_yaml_config(path: str) -> DictConfig:
    """Reads a YAML config without importing or calling anything that it names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML of plain values, or breaks one of the rules of this module.
    """
    text = read_bytes(path, MAX_BYTES)
    try:
        content = parse_yaml(text.decode())
        if not isinstance(content, dict):
            raise ValueError(f"a config is a mapping, got a {type(content).__name__}")
        for place, text in values_of(content):
            if isinstance(text, str) and "${" in text and not _REFERENCE.fullmatch(text):
                raise ValueError(f"{place}: {text[:200]!r} is more than a reference, as ${{a.b}}")
        cfg = OmegaConf.create(content, flags={"allow_objects": True})
        check_size(cfg, MAX_VALUES)
        return cfg
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def check_plugins(names: Iterable[Any]) -> None:
    """ValueError for the first name that a YAML config may not have in ``train.plugins``."""
    for name in names:
        if not _is_inside(str(name), ["projects"]):
            raise ValueError(
                f"train.plugins: {name!r} is not in projects; if you trust it, take it out of the "
                f"file and give train.plugins=[{name}] on the command line"
            )


def check_targets(cfg: DictConfig, plugins: Iterable[str] = ()) -> None:
    """ValueError for the first target that is neither in ``CALLABLE`` nor in ``plugins``, names of
    modules. To find the targets, modules of these packages are imported."""
    allowed = (*CALLABLE, *plugins)
    for place, call in values_of(OmegaConf.to_container(cfg)):
        if not isinstance(call, dict) or "_target_" not in call:
            continue
        key = "path" if call["_target_"] == "hydra.utils.get_object" else "_target_"
        if problem := _problem_of(call.get(key), allowed):
            raise ValueError(
                f"{place}.{key}: {call.get(key)!r} {problem} of what a YAML config may call: "
                f"{', '.join(allowed)}. If you trust it, name its module on the command line, "
                "train.plugins=[MODULE], or write a .py config"
            )


def _problem_of(name: Any, allowed: Iterable[str]) -> str:
    """Says why a YAML config may not call what has this name; "" where it may. The module that
    defines it decides: a module that is allowed also leads to what it imports."""
    if not _is_inside(str(name), {module.partition(".")[0] for module in allowed}):
        return "is not on the list"
    try:
        found = get_object(name)
    except Exception as error:  # whatever an import raises
        return f"cannot be found ({type(error).__name__}: {error})"
    owner = type(found) if isinstance(found, Enum | torch.dtype) else found
    if not (inspect.isclass(owner) or inspect.isroutine(owner)):
        return "is no class and no function"
    home = f"{owner.__module__}.{owner.__qualname__}"
    return "" if _is_inside(home, allowed) else f"is {home}, which is not on the list"


def _is_inside(name: str, modules: Iterable[str]) -> bool:
    parts = name.split(".")
    is_public = all(part.isidentifier() and not part.startswith("_") for part in parts)
    return is_public and any(f"{name}.".startswith(f"{module}.") for module in modules)
