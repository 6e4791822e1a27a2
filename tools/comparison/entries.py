"""The configs of a comparison: how they are read, and what must be the same in all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, SCMode

from fsdbev.d2.config import instantiate
from fsdbev.data.nuscenes_tables import check_tables
from fsdbev.engine import load_config

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
#: What every run is given, and what gives it.
_OWN = {
    "train.seed": "--seeds",
    "train.output_dir": "--out",
    "train.eval_period": "the comparison, which evaluates once, at the end",
}
#: Settings that change no result.
_NO_METHOD = ("train.output_dir", "train.seed", "train.plugins", "train.checkpointer.")
_NO_METHOD += ("train.log_period", "train.eval_period", "train.eval_streaming")
_NO_METHOD += ("train.report.", "train.wandb.")
_NAME = re.compile(r"\w[\w.+ -]*")


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
    for key, source in _OWN.items():
        if any(text.split("=")[0].strip() == key for text in overrides):
            raise ValueError(f"{key} cannot be overridden: it is set by {source}")
    paths = {}
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
    return [_entry(name, paths[name], cfg) for name, cfg in configs.items()]


def check_data(entry: Entry) -> None:
    """FileNotFoundError, with what makes it, unless the prepared data set is there."""
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
            found[key] = _text(value)

    visit(OmegaConf.to_container(cfg, resolve=resolve, structured_config_mode=SCMode.DICT), "")
    return found


def differences(entries: Sequence[Entry]) -> dict[str, dict[str, str]]:
    """Settings of the method that are not the same in all configs: key, name of the config, value.

    What refers to another setting counts by what it refers to, so that a difference stands once.
    """
    settings = {entry.name: flat(entry.cfg, resolve=False) for entry in entries}
    keys = dict.fromkeys(key for values in settings.values() for key in values)
    return {
        key: {
            name: without_folder(values[key]) for name, values in settings.items() if key in values
        }
        for key in keys
        if len({values.get(key) for values in settings.values()}) > 1
        and not key.startswith(_NO_METHOD)
    }


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
    name, separator, path = text.partition("=")
    if not separator:
        name, path = Path(text).stem, text
    if not path.endswith((".py", ".yaml", ".yml")):
        raise ValueError(
            f"--config-file: {text!r} is neither FILE.py nor NAME=FILE.py; overrides stand behind "
            "another option"
        )
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"--config-file: {name!r} is no name: it has letters, digits, '_', '.', '+', '-' and "
            "spaces, and starts with a letter or digit"
        )
    return name, path


def _check_same(configs: dict[str, DictConfig]) -> None:
    """ValueError that names a key of ``SAME`` and its two values."""
    for name, cfg in configs.items():
        for key in ("model", *SAME):
            if OmegaConf.select(cfg, key) is None:
                raise ValueError(f"{name!r} has no {key}, and cannot be compared without it")
    settings = {name: _without_output(flat(cfg, resolve=True)) for name, cfg in configs.items()}
    (first, expected), *others = settings.items()
    for key in SAME:
        for name, found in others:
            for part in sorted({*expected, *found}):
                is_in = part == key or part.startswith(f"{key}.")
                if is_in and expected.get(part) != found.get(part):
                    raise ValueError(
                        f"{part} is {expected.get(part, 'absent')} in {first!r} and "
                        f"{found.get(part, 'absent')} in {name!r}: a comparison needs the same in "
                        f"all; correct a config, or override {key} for every run"
                    )


def _without_output(settings: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings.items() if not key.endswith(".output_dir")}


def _entry(name: str, path: str, cfg: DictConfig) -> Entry:
    model = instantiate(cfg.model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Entry(name, path, cfg, parameters, model.num_frames)


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(item)}' for key, item in value.items())}}}"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    # an object's address is another one in each process
    return re.sub(r" at 0x\w+", "", str(value))
