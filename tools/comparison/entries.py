"""The configs of a comparison: how they are read, and what must be the same in all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, SCMode

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.nuscenes.tables import check_tables

#: What makes a comparison fair: keys, and nodes with all that is below them.
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
#: What the comparison sets in every run, and where its value comes from.
OWN = {
    "train.seed": "--seeds",
    "train.output_dir": "--out",
    "train.eval_period": "the comparison, which evaluates once, at the end",
}
#: Settings that change no result.
_NO_METHOD = (*OWN, "train.plugins", "train.checkpointer.", "train.log_period")
_NO_METHOD += ("train.eval_streaming", "train.report.", "train.wandb.")
_CONFIG = re.compile(r"(?:(?P<name>\w[\w.+ -]*)=)?(?P<path>[^=]+\.(?:py|ya?ml))")


@dataclass(frozen=True)
class Entry:
    """A config that is compared.

    Attributes:
        name: of its row in the report, and of its folder.
        path: of the config file.
        cfg: with the overrides of all runs.
        parameters: of its model.
        num_frames: that its model takes.
    """

    name: str
    path: str
    cfg: DictConfig
    parameters: int
    num_frames: int


def load_entries(texts: Sequence[str], overrides: Sequence[str]) -> list[Entry]:
    """Reads the configs of ``FILE`` or ``NAME=FILE`` each, and builds their models once.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name is taken or is none, an override is wrong, or the configs cannot be
            compared: see ``SAME``.
    """
    for key in {text.split("=")[0].strip() for text in overrides}.intersection(OWN):
        raise ValueError(f"{key} cannot be overridden: it is set by {OWN[key]}")
    paths: dict[str, str] = {}
    for text in texts:
        name, path = _name_and_path(text)
        if name in paths:
            raise ValueError(
                f"two configs are named {name!r}: {paths[name]} and {path}; give one another name, "
                f"as OTHER={path}"
            )
        paths[name] = path
    configs = {name: load_config(path, overrides) for name, path in paths.items()}
    _check_same(configs)
    entries = []
    for name, cfg in configs.items():
        model = instantiate(cfg.model)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        entries.append(Entry(name, paths[name], cfg, parameters, model.num_frames))
    return entries


def check_data(entry: Entry) -> None:
    """Raises FileNotFoundError, with the commands that prepare it, if the data set is missing."""
    data = entry.cfg.dataloader
    try:
        check_tables(data.dataroot, data.version)
        for loader in (data.train, data.test):
            instantiate(loader.dataset)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}\nThe synthetic data set is made by: python tools/make_synthetic_nuscenes.py "
            f"--out {data.dataroot} && python tools/prepare_nuscenes.py --dataroot {data.dataroot} "
            "--version v1.0-synth"
        ) from error


def flat(cfg: DictConfig, *, resolve: bool) -> dict[str, str]:
    """The values of a config as text, by dotted key."""
    found: dict[str, str] = {}

    def visit(value: Any, key: str) -> None:
        if isinstance(value, dict) and value:
            for name, item in value.items():
                visit(item, f"{key}.{name}" if key else str(name))
        else:
            found[key] = value if isinstance(value, str) else json.dumps(value, default=_name_of)

    visit(OmegaConf.to_container(cfg, resolve=resolve, structured_config_mode=SCMode.DICT), "")
    return found


def changed_keys(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Keys whose values differ or that only one of two flat configs has."""
    return [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]


def differences(entries: Sequence[Entry]) -> dict[str, dict[str, str]]:
    """Settings of the method that are not the same in all configs: key, name of the config, value.

    What refers to another setting counts by what it refers to, so that a difference stands once.
    """
    settings = {entry.name: flat(entry.cfg, resolve=False) for entry in entries}
    found = {}
    for key in dict.fromkeys(key for values in settings.values() for key in values):
        same = len({values.get(key) for values in settings.values()}) == 1
        if not same and not key.startswith(_NO_METHOD):
            having = {name: values.get(key, "absent") for name, values in settings.items()}
            found[key] = {name: without_folder(value) for name, value in having.items()}
    return found


def without_folder(text: str) -> str:
    """``text`` or ``key=text``; of an absolute path what is below the working directory or else its
    last part: a report names no folder of a machine."""
    key, separator, value = text.rpartition("=")
    path = Path(value.strip("'\""))
    if not path.is_absolute():
        return text
    inside = path.is_relative_to(Path.cwd())
    return f"{key}{separator}{path.relative_to(Path.cwd()) if inside else path.name}"


def _name_and_path(text: str) -> tuple[str, str]:
    match = _CONFIG.fullmatch(text)
    if not match:
        raise ValueError(
            f"--config-file: {text!r} is neither FILE.py nor NAME=FILE.py, whose name has letters, "
            "digits, '_', '.', '+', '-' and spaces, and starts with a letter or digit; overrides "
            "stand behind another option"
        )
    return match["name"] or Path(text).stem, match["path"]


def _check_same(configs: dict[str, DictConfig]) -> None:
    """ValueError that names a key of ``SAME`` and its two values."""
    for name, cfg in configs.items():
        for key in ("model", *SAME):
            if OmegaConf.select(cfg, key) is None:
                raise ValueError(f"{name!r} has no {key}, and cannot be compared without it")
    (first, expected), *others = ((name, flat(cfg, resolve=True)) for name, cfg in configs.items())
    for key in SAME:
        for name, found in others:
            for part in changed_keys(expected, found):
                if f"{part}.".startswith(f"{key}.") and not part.endswith(".output_dir"):
                    raise ValueError(
                        f"{part} is {expected.get(part, 'absent')} in {first!r} and "
                        f"{found.get(part, 'absent')} in {name!r}: a comparison needs the same in "
                        f"all; correct a config, or override {key} for every run"
                    )


def _name_of(value: Any) -> str:
    """Text of what JSON does not know: functions, classes and objects."""
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x\w+", "", str(value))  # an object's address differs between processes
