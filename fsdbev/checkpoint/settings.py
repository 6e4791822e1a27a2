"""Settings that change the meaning of weights but not their shapes: a checkpoint contains them, and
loading compares them with those of the config."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from fsdbev.structures import ClassSet

logger = logging.getLogger(__name__)

_CLASSES = "model.classes"
_OPTION = "train.checkpoint_settings"
#: Settings of the images, on which all parts depend.
_OF_IMAGES = ("model.pixel_mean", "model.pixel_std")


@dataclass(frozen=True)
class ModelSettings:
    """Settings that the weights of a model were trained for.

    Attributes:
        values: config key -> JSON types, such as ``model.grid.cell``.
        classes: classes of a detector; None for other models.
        on_difference: what :meth:`check` does, "error" or "warn" (``train.checkpoint_settings``).

    Raises:
        ValueError: ``on_difference`` is neither.
    """

    values: Mapping[str, Any]
    classes: ClassSet | None = None
    on_difference: str = "error"

    def __post_init__(self) -> None:
        if self.on_difference not in ("error", "warn"):
            raise ValueError(f"{_OPTION} must be error or warn, got {self.on_difference!r}")

    @classmethod
    def of(
        cls, model: nn.Module, cfg: DictConfig | None = None, split: str = "test"
    ) -> ModelSettings:
        """Collects the settings of a model and of its data.

        Args:
            model: the model. Each part may have an attribute ``saved_settings``, a mapping from a
                name to a plain value or a dataclass of these; ``classes`` are the model's.
            cfg: config of the run; None: only the settings of the model.
            split: mapper of ``cfg.dataloader`` from which image size and frame spacing are taken,
                "train" or "test".
        """
        values: dict[str, Any] = {}
        for part, module in model.named_modules():
            for name, value in getattr(module, "saved_settings", {}).items():
                place = ".".join(filter(None, ("model", part, name)))
                items = asdict(value) if is_dataclass(value) else {"": value}
                values |= {f"{place}.{key}".rstrip("."): _plain(v) for key, v in items.items()}
        classes = getattr(model, "classes", None)
        classes = classes if isinstance(classes, ClassSet) else None
        if cfg is None:
            return cls(values, classes)
        values |= _data_settings(cfg, split, getattr(model, "num_frames", None))
        return cls(values, classes, cfg.train.get("checkpoint_settings", "error"))

    @classmethod
    def from_dict(cls, content: Any, where: str) -> ModelSettings | None:
        """Reads the entry of a checkpoint.

        Args:
            content: a value like that of :meth:`to_dict`; None: the file has no such entry.
            where: name of the file, for the message.

        Raises:
            ValueError: the content is no such value.
        """
        if content is None:
            return None
        try:
            values = json.loads(json.dumps(dict(content)))
            classes = values.pop(_CLASSES, None)
            return cls(values, None if classes is None else ClassSet(**classes))
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{where}: its settings can't be read ({error}); if another program wrote the "
                "file, tools/convert_checkpoint.py --foreign-objects extracts its weights alone"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Returns config key -> JSON types; empty for a model without settings."""
        return {**self.values} | ({_CLASSES: self.classes.to_dict()} if self.classes else {})

    def of_parts(self, parts: Sequence[str]) -> ModelSettings:
        """Returns the settings of the images and those that the parts themselves have.

        Args:
            parts: names of children of the model, such as ``backbone``.
        """
        prefixes = tuple(f"model.{part}." for part in parts)
        values = {
            key: value
            for key, value in self.values.items()
            if key in _OF_IMAGES or key.startswith(prefixes)
        }
        return replace(self, values=values, classes=None)

    def differences(self, saved: ModelSettings | None) -> dict[str, str]:
        """Compares these settings with those of a checkpoint.

        Args:
            saved: settings of the checkpoint; None and missing settings are not compared.

        Returns:
            config key -> text with both values.
        """
        own, theirs = self._compared(), saved._compared() if saved else {}
        return {
            key: f"{json.dumps(theirs[key])} in the file, {json.dumps(value)} in the config"
            for key, value in own.items()
            if key in theirs and theirs[key] != value
        }

    def check(self, saved: ModelSettings | None, *, source: str, remedy: str) -> None:
        """Checks that a checkpoint has these settings.

        Args:
            saved: settings of the checkpoint; None: they are unknown.
            source: description of the checkpoint for the message.
            remedy: last part of the message of the error.

        Raises:
            ValueError: settings differ and ``on_difference`` is "error"; the message lists them.
        """
        differences = self.differences(saved)
        if differences and self.on_difference == "error":
            raise ValueError(
                f"{describe(differences, source)}\n{remedy}; {_OPTION}=warn makes this a warning"
            )
        if differences:
            logger.warning("%s", describe(differences, source))

    def _compared(self) -> dict[str, Any]:
        """Returns the settings to compare; of the classes names and groups, on which the outputs of
        the head depend."""
        if self.classes is None:
            return {**self.values}
        groups = [list(group.names) for group in self.classes.groups]
        names = list(self.classes.names)
        return {f"{_CLASSES}.names": names, f"{_CLASSES}.groups": groups, **self.values}


def describe(differences: Mapping[str, str], source: str) -> str:
    """Returns a text with each of :meth:`ModelSettings.differences` on its own line.

    Args:
        differences: config key -> text with both values.
        source: description of the checkpoint.
    """
    lines = [f"{key}: {values}" for key, values in differences.items()]
    return "\n  ".join([f"{source}: trained with other settings than the config's", *lines])


def _data_settings(cfg: DictConfig, split: str, num_frames: int | None) -> dict[str, Any]:
    """Returns the settings of a mapper in ``cfg.dataloader`` that weights depend on; those that the
    mapper does not have are left out."""
    mapper = f"dataloader.{split}.mapper"
    keys = {"image_size": f"{mapper}.image_aug.image_size"}
    if num_frames != 1:
        keys |= {key: f"{mapper}.{key}" for key in ("frame_interval", "frame_spacing")}
    unknown = object()
    found = {key: OmegaConf.select(cfg, place, default=unknown) for key, place in keys.items()}
    if found.get("frame_interval", unknown) not in (None, unknown):
        found["frame_spacing"] = None  # it is not used
    return {f"dataloader.{k}": _plain(v) for k, v in found.items() if v is not unknown}


def _plain(value: Any) -> Any:
    """Returns lists for tuples and for lists of configs."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return [_plain(item) for item in value] if is_list else value
