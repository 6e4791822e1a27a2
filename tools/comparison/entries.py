"""Configs of a comparison: reads them and checks that they can be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, SCMode

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.nuscenes.tables import check_tables
from fsdbev.data.synthetic import SyntheticOptions
from fsdbev.data.synthetic.generator import MARKER
from fsdbev.structures import ClassSet

#: Keys that must be equal in all configs for a fair comparison; a node includes all keys below it.
SAME = (
    "train.max_iter",
    "dataloader.train.total_batch_size",
    "dataloader.dataroot",
    "dataloader.version",
    "dataloader.train_split",
    "dataloader.test_split",
    "dataloader.image_size",
    "dataloader.train.dataset",
    "dataloader.test.dataset",
    "dataloader.evaluator",
)
#: Keys that the comparison sets in every run, with the source of their values.
OWN = {
    "train.seed": "--seeds",
    "train.output_dir": "--out",
    "train.eval_period": "the comparison, which evaluates once, at the end",
}
#: Ends of keys within ``SAME`` that may differ: the NMS of a model is part of its classes.
_FREE = (".output_dir", ".classes.groups")
_DATAROOT = "dataloader.dataroot"
#: Keys (or their beginnings) that do not change results: differences in them do not count.
_WITHOUT_EFFECT = ("train.plugins", "train.checkpointer.", "train.log_period")
_WITHOUT_EFFECT += ("train.eval_streaming", "train.report.", "train.wandb.")
_CONFIG = re.compile(r"(?:(?P<name>\w[\w.+ -]*)=)?(?P<path>[^=]+\.(?:py|ya?ml))")


@dataclass(frozen=True)
class Entry:
    """Config of a comparison.

    Attributes:
        name: name of its row in the report and of its folder.
        path: path of the config file.
        cfg: the config with the overrides of all runs.
        parameters: number of parameters of its model.
        classes: classes of its model.
    """

    name: str
    path: str
    cfg: DictConfig
    parameters: int
    classes: ClassSet

    @cached_property
    def settings(self) -> dict[str, str]:
        """``settings_of`` the config."""
        return settings_of(self.cfg)

    @cached_property
    def same(self) -> dict[str, str]:
        """The resolved values of ``SAME``, which all configs must share, as text by key."""
        values = flat(self.cfg, resolve=True)
        return {
            key: values[key]
            for start in SAME
            for key in values
            if f"{key}.".startswith(f"{start}.") and not key.endswith(_FREE)
        }

    @cached_property
    def data_options(self) -> dict[str, Any]:
        """Options of the synthetic data set; empty for other data."""
        data = self.cfg.dataloader
        marker = Path(data.dataroot) / data.version / MARKER
        if not marker.is_file():
            return {}
        found = json.loads(marker.read_text(encoding="utf-8"))["options"]
        # A data set of an earlier version lacks the options that are newer.
        return {**SyntheticOptions().as_dict(), **found}


def load_entries(texts: Sequence[str], overrides: Sequence[str]) -> list[Entry]:
    """Reads configs and builds each model once.

    Args:
        texts: ``FILE`` or ``NAME=FILE`` for each config.
        overrides: changes to all configs, ``key=value``.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a name is invalid or used twice, an override is invalid, or the configs differ
            in ``SAME``.
    """
    for key in {text.split("=")[0].strip() for text in overrides}.intersection(OWN):
        raise ValueError(f"{key} cannot be overridden: it is set by {OWN[key]}")
    paths: dict[str, str] = {}
    for text in texts:
        name, path = _name_and_path(text)
        if name in paths:
            raise ValueError(
                f"two configs are named {name!r}: {paths[name]} and {path}; rename one of them, "
                f"for example OTHER={path}"
            )
        paths[name] = path
    configs = {name: load_config(path, overrides) for name, path in paths.items()}
    entries = []
    for name, cfg in configs.items():
        for key in ("model", *SAME):
            if OmegaConf.select(cfg, key) is None:
                raise ValueError(f"{name!r} has no {key} and cannot be compared")
        model = instantiate(cfg.model)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        entries.append(Entry(name, paths[name], cfg, parameters, model.classes))
    check_same({entry.name: entry.same for entry in entries}, "override it for all runs")
    return entries


def check_data(entry: Entry) -> None:
    """Checks that the data set of a config exists and is prepared.

    Raises:
        FileNotFoundError: a file is missing; the message has the commands that make it.
    """
    data = entry.cfg.dataloader
    try:
        check_tables(data.dataroot, data.version)
        for loader in (data.train, data.test):
            instantiate(loader.dataset)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}\nThe commands for the synthetic data set, to which you add the options of "
            "the runs that you continue, are: "
            f"python tools/make_synthetic_nuscenes.py --out {data.dataroot} && "
            f"python tools/prepare_nuscenes.py --dataroot {data.dataroot} --version v1.0-synth"
        ) from error


def settings_of(cfg: DictConfig) -> dict[str, str]:
    """Returns a config as text by key, without the keys that the comparison sets and the folder of
    the data. References are not resolved, so that a difference between two configs is listed once,
    under the key referred to."""
    values = flat(cfg, resolve=False)
    return {key: value for key, value in values.items() if key not in (*OWN, _DATAROOT)}


def flat(cfg: DictConfig, *, resolve: bool) -> dict[str, str]:
    """Returns the values of a config as text by dotted key."""
    found: dict[str, str] = {}

    def visit(value: Any, key: str) -> None:
        if isinstance(value, dict) and value:
            for name, item in value.items():
                visit(item, f"{key}.{name}" if key else str(name))
        else:
            found[key] = value if isinstance(value, str) else json.dumps(value, default=_name_of)

    visit(OmegaConf.to_container(cfg, resolve=resolve, structured_config_mode=SCMode.DICT), "")
    return found


def changed_keys(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns the keys with different values, or that only one of two flat configs has."""
    return [
        key
        for key in {**before, **now}
        if before.get(key) != now.get(key) and not key.startswith(_WITHOUT_EFFECT)
    ]


def differences(settings: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Returns the settings that differ between configs: values by key and name of the config.

    Args:
        settings: name -> ``settings`` of its entry.
    """
    first, *others = settings.values()
    changed = dict.fromkeys(key for other in others for key in changed_keys(first, other))
    return {
        key: {name: without_folder(own.get(key, "absent")) for name, own in settings.items()}
        for key in changed
    }


def without_folder(text: str) -> str:
    """Shortens an absolute path, so that a report names no folders of a machine.

    Args:
        text: ``value`` or ``key=value``.

    Returns:
        The text with the path relative to the working directory, or with only its last part if it
        is outside. Other texts are returned unchanged.
    """
    key, separator, value = text.rpartition("=")
    path = Path(value.strip("'\""))
    if not path.is_absolute():
        return text
    inside = path.is_relative_to(Path.cwd())
    return f"{key}{separator}{path.relative_to(Path.cwd()) if inside else path.name}"


def _name_and_path(text: str) -> tuple[str, str]:
    """Splits ``FILE`` or ``NAME=FILE``; the default name is the file's."""
    match = _CONFIG.fullmatch(text)
    if not match:
        raise ValueError(
            f"--config-file: {text!r} is neither FILE.py nor NAME=FILE.py; a name consists of "
            "letters, digits, '_', '.', '+', '-' and spaces and starts with a letter or digit. "
            "Overrides must follow another option"
        )
    return match["name"] or Path(text).stem, match["path"]


def check_same(values: Mapping[str, Mapping[str, str]], remedy: str) -> None:
    """Raises a ValueError that names a key and its values if two configs differ.

    Args:
        values: name of a config -> its values by key.
        remedy: end of the message.
    """
    (first, expected), *others = values.items()
    for name, found in others:
        if changed := changed_keys(expected, found):
            key = changed[0]
            raise ValueError(
                f"{key} is {expected.get(key, 'absent')} in {first!r} and "
                f"{found.get(key, 'absent')} in {name!r}: a comparison needs equal values; {remedy}"
            )


def _name_of(value: Any) -> str:
    """Returns a text for functions, classes and objects, which JSON cannot represent."""
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    # The address of an object differs between processes.
    return re.sub(r" at 0x\w+", "", str(value))
