"""Loading of weights into a model, with a report of mismatches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from .convert import to_our_names
from .files import ITERATION, SETTINGS, read_checkpoint
from .settings import ModelSettings, describe

logger = logging.getLogger(__name__)

#: BatchNorm's counter, which old files lack; only a BatchNorm without momentum needs it.
_OPTIONAL = "num_batches_tracked"
_OTHER_SETTINGS = (
    "Give the config the file's values, or start a training with the config's from these weights "
    "(train.init_checkpoint)"
)
_ONLY_PARTS = (
    "It has only {}: a training can start from it (train.init_checkpoint). To use a whole model, "
    "give --weights FILE or train.init_checkpoint=FILE"
)


@dataclass(frozen=True)
class LoadReport:
    """Comparison of the weights of a file with those of a model.

    Attributes:
        loaded: names with the same shape in both.
        missing: names of the model that the file lacks.
        unexpected: names of the file that the model lacks.
        mismatched: name -> "<shape in the file>, not <shape in the model>".
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, str] = field(default_factory=dict)

    def num_problems(self) -> int:
        """Returns the number of names that do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.mismatched)

    def parts(self) -> tuple[list[str], list[str]]:
        """Returns the parts of the model of which the file has a weight, and those of which it has
        none, such as ``["backbone", "neck"], ["depth_net", "head"]``."""
        loaded, missing = (
            list(dict.fromkeys(name.split(".")[0] for name in names))
            for names in ((*self.loaded, *self.mismatched), self.missing)
        )
        return loaded, [part for part in missing if part not in loaded]

    def problems(self, without: Container[str] = ()) -> list[str]:
        """Returns one line for each kind of mismatch, with the names grouped by model part.

        Args:
            without: parts whose missing names are left out.
        """
        shapes = "; ".join(f"{name}: {shapes}" for name, shapes in self.mismatched.items())
        missing = [name for name in self.missing if name.split(".")[0] not in without]
        found = (_by_part(missing), shapes, _by_part(self.unexpected))
        return [f"{kind}: {names}" for kind, names in zip(_KINDS, found) if names]

    def listing(self, name_of: Callable[[str], str] = str) -> str:
        """Returns a text with every mismatched name on its own line, below the kind of mismatch.

        Args:
            name_of: converts a name of the model to the name to show.
        """
        shapes = [f"{name_of(name)}: {shapes}" for name, shapes in self.mismatched.items()]
        found = (map(name_of, self.missing), shapes, map(name_of, self.unexpected))
        kinds = [(kind, list(names)) for kind, names in zip(_KINDS, found)]
        return "\n".join(
            "\n    ".join([f"  {kind} ({len(names)}):", *names]) for kind, names in kinds if names
        )


_KINDS = ("not in the file", "of another shape", "in the file but not in the model")


def _by_part(names: Iterable[str]) -> str:
    """Summarises names by model part, as ``neck 18 (neck.lateral3.weight, ...), head 2 (...)``."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.split(".")[0], []).append(name)
    return ", ".join(
        f"{part} {len(names)} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for part, names in parts.items()
    )


@dataclass(frozen=True)
class SavedWeights:
    """Weights of a checkpoint file.

    Attributes:
        tensors: tensors by their names in the file.
        source: description of the weights for messages.
        settings: settings of the model that was saved; None if the file does not say them, as
            those of the FSD-BEV release and of version 0.2 and older.
        iteration: number of the last iteration of the training; None if the file does not say it.
    """

    tensors: Mapping[str, Tensor]
    source: str
    settings: ModelSettings | None = None
    iteration: int | None = None


def compare(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], restart: Iterable[str] = ()
) -> LoadReport:
    """Compares weights with a model by name and shape.

    Args:
        weights: tensors of a file under the model's names.
        own: the model's ``state_dict()``.
        restart: layers of the model that are not compared.
    """
    prefixes = tuple(f"{layer}." for layer in restart)
    weights, own = (
        {name: value for name, value in tensors.items() if not name.startswith(prefixes)}
        for tensors in (weights, own)
    )
    mismatched = {
        name: f"{tuple(weights[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    }
    return LoadReport(
        loaded=tuple(name for name in weights if name in own and name not in mismatched),
        missing=tuple(n for n in own if n not in weights and not n.endswith(_OPTIONAL)),
        unexpected=tuple(name for name in weights if name not in own),
        mismatched=mismatched,
    )


def read_weights(path: str) -> SavedWeights:
    """Reads the weights of a checkpoint file, under the names in the file. If the file also has
    averaged (EMA) weights, these are returned.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read (see :func:`.read_checkpoint`), has no weights, or its
            settings are malformed.
    """
    checkpoint = read_checkpoint(path)
    averaged = checkpoint.get("ema")
    has_average = isinstance(averaged, Mapping) and "model" in averaged
    weights = averaged["model"] if has_average else checkpoint["model"]
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(f"{path!r} contains no weights, but {weights!r:.100}")
    others = [
        f"{name!r} ({type(value).__name__})"
        for name, value in weights.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if others:
        raise ValueError(
            f"{path!r} contains no weights: at the top level, under 'state_dict' or under 'model' "
            f"there must be only tensors by name, but there are {', '.join(others)}"
        )
    source = f"{path} ({'EMA weights' if has_average else 'weights'})"
    settings = ModelSettings.from_dict(checkpoint.get(SETTINGS), path)
    iteration = checkpoint.get(ITERATION)  # other programs may use the name for something else
    iteration = iteration if isinstance(iteration, int) else None
    return SavedWeights(dict(weights), source, settings, iteration)


def class_layers(model: nn.Module) -> list[str]:
    """Returns the names of the layers that depend on the classes: those in the attribute
    ``class_layers`` of the model's parts, such as ``head.task_heads``."""
    return [
        f"{name}.{layer}" if name else layer
        for name, part in model.named_modules()
        for layer in getattr(part, "class_layers", ())
    ]


def load_weights(
    model: nn.Module, path: str, *, strict: bool, settings: ModelSettings | None = None
) -> LoadReport:
    """Loads the weights of a file into a model.

    The file is a checkpoint of this project or of the FSD-BEV release, or a torchvision ResNet,
    whose weights go into ``model.backbone`` (see :func:`.to_our_names`).

    Args:
        model: the model.
        path: the file, or ``zoo://<name>``, see :func:`.read_checkpoint`.
        strict: whether names, shapes and settings must equal the model's. Otherwise other settings
            are a warning, and parameters that are missing or have another shape keep their values;
            so do the layers that depend on the classes if the file has other classes.
        settings: settings of model and data; None: those of the model alone. Files that do not say
            theirs are accepted.

    Raises:
        FileNotFoundError: there is no such file or released model.
        ValueError: the file cannot be read, violates ``strict``, or has no weight that fits the
            model.
    """
    saved, layers = read_weights(path), []
    settings = settings or ModelSettings.of(model)
    if strict:
        settings.check(saved.settings, source=saved.source, remedy=_OTHER_SETTINGS)
        if saved.settings is None and settings.to_dict():
            logger.info("%s do not say their settings: the config's are assumed", saved.source)
    elif differences := settings.differences(saved.settings):
        text = describe(differences, saved.source)
        if any(key.startswith("model.classes.") for key in differences):
            layers = class_layers(model)
            anew = ", ".join(layers) or "none, because no part of the model names its class_layers"
            text += f"\nThese layers start anew: {anew}"
        logger.warning("%s", text)
    tensors = to_our_names(saved.tensors)
    return load_state(model, tensors, strict=strict, source=saved.source, restart=layers)


def load_state(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    strict: bool,
    source: str,
    restart: Iterable[str] = (),
) -> LoadReport:
    """Loads weights into a model.

    Args:
        model: the model.
        weights: tensors under the model's names.
        strict: see :func:`load_weights`.
        source: description of the weights for messages.
        restart: layers of the model that keep their values.

    Raises:
        ValueError: the weights violate ``strict``, or none of them fits the model.
    """
    own = model.state_dict()
    report = compare(weights, own, restart)
    problems = report.problems()
    loaded, absent = report.parts()
    if not report.loaded or (strict and problems):
        if loaded and absent:
            problems.append(_ONLY_PARTS.format(", ".join(loaded)))
        raise ValueError(f"{source} does not fit the model. " + ". ".join(problems))
    # strict=False, as only the weights that fit are passed; strictness has been checked above.
    model.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    logger.info("Loaded %d of %d tensors from %s", len(report.loaded), len(own), source)
    if absent:
        # A file of some parts is usual, such as a pre-trained backbone.
        logger.info("Parts from the file: %s. Anew: %s", ", ".join(loaded), ", ".join(absent))
    for problem in report.problems(without=absent):
        logger.warning("%s, %s", source, problem)
    return report
