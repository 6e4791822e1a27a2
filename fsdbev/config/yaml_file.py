"""YAML configs, which are safe to load from untrusted sources. The rules of ``utils.plain_yaml``
apply (no tags, no aliases, no duplicate keys), and in addition:

- ``_target_``, and the ``path`` of ``hydra.utils.get_object``, name classes and functions that are
  defined in one of ``CALLABLE`` or in a plugin given on the command line.
- ``train.plugins`` names only modules of ``projects`` and those that the command line names too.
- ``${key}`` and ``${..key}`` refer to other values, as in a ``.py`` config. Resolvers such as
  ``${oc.env:HOME}`` are errors.

A ``.py`` config is a program and is executed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from enum import Enum
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from fsdbev.utils.plain_file import read_bytes
from fsdbev.utils.plain_yaml import check_references, check_size, iter_values, parse_yaml

#: Modules whose public classes and functions a YAML config may call, including submodules.
CALLABLE = (
    *("detectron2.layers", "detectron2.modeling.backbone", "detectron2.solver"),
    *("fsdbev.data.build", "fsdbev.data.mapper", "fsdbev.data.nuimages", "fsdbev.data.samplers"),
    *("fsdbev.data.transforms", "fsdbev.evaluation.detection_evaluator"),
    *("fsdbev.evaluation.image_masks", "fsdbev.evaluation.nuscenes_evaluator"),
    *("fsdbev.engine.optim", "fsdbev.modeling", "fsdbev.structures"),
    *("fvcore.common.param_scheduler", "projects"),
    *("torch.dtype", "torch.nn.modules", "torch.optim"),
)
MAX_BYTES = 250_000  # size of a file; this project's configs have 10 kB
MAX_VALUES = 10_000  # values after references are resolved; this project's configs have 1500


def read_yaml_config(path: str) -> DictConfig:
    """Reads a YAML config without importing or calling anything that it names.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not plain YAML, is too large, or breaks a rule of this module.
    """
    text = read_bytes(path, MAX_BYTES)
    try:
        content = parse_yaml(text.decode())
        if not isinstance(content, dict):
            raise ValueError(f"a config is a mapping, got a {type(content).__name__}")
        check_references(content)
        cfg = OmegaConf.create(content, flags={"allow_objects": True})
        check_size(cfg, MAX_VALUES)
        return cfg
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def check_plugins(names: Iterable[Any]) -> None:
    """Checks ``train.plugins`` of a YAML config; ValueError for a name outside ``projects``."""
    for name in names:
        if not _is_inside(str(name), ["projects"]):
            raise ValueError(
                f"train.plugins: {name!r} is not a module of projects; if you trust it, name it on "
                f"the command line too, train.plugins=[{name}]"
            )


def check_targets(cfg: DictConfig, plugins: Iterable[str] = ()) -> None:
    """Checks that all targets are in ``CALLABLE`` or in the modules ``plugins``, which it imports;
    ValueError for the first one that is not."""
    allowed = (*CALLABLE, *plugins)
    for place, call in iter_values(OmegaConf.to_container(cfg)):
        if not isinstance(call, dict) or "_target_" not in call:
            continue
        key = "path" if call["_target_"] == "hydra.utils.get_object" else "_target_"
        if problem := _problem_of(call.get(key), allowed):
            raise ValueError(
                f"{place}.{key}: {call.get(key)!r} {problem}. A YAML config may call only "
                f"{', '.join(allowed)}. If you trust it, name its module on the command line "
                "(train.plugins=[MODULE]) or write a .py config"
            )


def _problem_of(name: Any, allowed: Iterable[str]) -> str:
    """Returns why a YAML config may not call the object of this name, or "" if it may. The module
    that defines the object decides: an allowed module also has the names that it imports."""
    if not _is_inside(str(name), {module.partition(".")[0] for module in allowed}):
        return "is not on the list"
    try:
        found = get_object(name)
    except (Exception, SystemExit) as error:  # an import may raise anything
        return f"cannot be found ({type(error).__name__}: {error})"
    owner = type(found) if isinstance(found, Enum | torch.dtype) else found
    # No methods: some of them change the functions and classes that are passed as self.
    if not inspect.isroutine(owner) and not inspect.isclass(owner) or "." in owner.__qualname__:
        return "is not a class or function of a module"
    home = f"{owner.__module__}.{owner.__qualname__}"
    return "" if _is_inside(home, allowed) else f"is {home}, which is not on the list"


def _is_inside(name: str, modules: Iterable[str]) -> bool:
    parts = name.split(".")
    is_public = all(part.isidentifier() and not part.startswith("_") for part in parts)
    return is_public and any(f"{name}.".startswith(f"{module}.") for module in modules)
