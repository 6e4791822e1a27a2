"""Config keys and call targets of earlier versions that were renamed or removed."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from fsdbev.utils.plain_yaml import iter_values

_GROUPS = (
    "replaced by model.classes.groups: names of the classes, iou_threshold, dim_scale and "
    "center_distance of each group"
)
#: End of a key's place -> what replaces it.
RENAMED_KEYS = {
    "image_aug.exact_resampling": "removed in 0.2: images are always resampled exactly",
    "evaluator.fast_metrics": "renamed in 0.2: evaluator.official (true, false or auto)",
    "train.distributed.lost_after": "replaced in 0.2 by train.distributed.timeout_minutes",
    "train.distributed.stuck_after": "replaced in 0.2 by train.distributed.timeout_minutes",
    "head.tasks": _GROUPS,
    "head.class_names": "replaced by model.classes.names",
    "evaluator.class_names": "replaced by model.classes.names",
}
#: Module of a call's target -> the module that it moved to.
RENAMED_TARGETS = {
    "fsdbev.data.bev_aug": "fsdbev.data.transforms.bev_aug",
    "fsdbev.data.image_aug": "fsdbev.data.transforms.image_aug",
    "fsdbev.engine.schedule": "fsdbev.engine.optim",
    "fsdbev.evaluation.nuscenes": "fsdbev.evaluation.nuscenes_evaluator",
}
REMEDY = (
    "See docs/renamed.md. Make a saved config.yaml again from its config file: "
    "tools/train_net.py --config-file configs/NAME.py OVERRIDES --print-config"
)


def successor_of(place: str) -> str | None:
    """Returns what replaced the key at a dotted place, or None for any other key."""
    for old, new in RENAMED_KEYS.items():
        if place == old or place.endswith(f".{old}"):
            return new
    return None


def check_renamed(cfg: DictConfig) -> None:
    """Checks that a config has no key and no call target that was renamed or removed.

    Raises:
        ValueError: it has one; the message names its successor.
    """
    for place, value in iter_values(OmegaConf.to_container(cfg)):
        if new := successor_of(place):
            raise ValueError(f"{place}: {new}. {REMEDY}")
        if isinstance(value, dict) and (new := _new_target(value.get("_target_"))):
            old = value["_target_"]
            raise ValueError(f"{place}._target_: {old} is {new} in 0.2. {REMEDY}")


def _new_target(target: Any) -> str | None:
    module, _, name = str(target).rpartition(".")
    return f"{RENAMED_TARGETS[module]}.{name}" if module in RENAMED_TARGETS else None
