"""Loading weights into a model, with a report of what did not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .convert import to_our_names
from .files import read_checkpoint

logger = logging.getLogger(__name__)

_WRAPPER = "module."  # what DistributedDataParallel puts before every name
_OPTIONAL = "num_batches_tracked"  # a counter that old weights lack and nothing here reads


@dataclass(frozen=True)
class LoadReport:
    """What became of the names of a model and of a file.

    Attributes:
        loaded: names that were loaded.
        missing: names of the model that the file lacks.
        unexpected: names of the file that the model lacks.
        mismatched: ``name: shape in the file, not shape in the model``.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    def problems(self) -> list[str]:
        """One line for each kind of thing that did not fit."""
        kinds = (
            ("not in the file", _by_part(self.missing)),
            ("of another shape", "; ".join(self.mismatched)),
            ("in the file but not in the model", _by_part(self.unexpected)),
        )
        return [f"{kind}: {names}" for kind, names in kinds if names]


def _by_part(names: Iterable[str]) -> str:
    """``neck 18 (neck.lateral3.weight, ...), head 2 (...)``: names by the part of the model."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.split(".")[0], []).append(name)
    return ", ".join(
        f"{part} {len(names)} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for part, names in parts.items()
    )


def load_weights(model: nn.Module, path: str, *, strict: bool) -> LoadReport:
    """Loads the weights of a file into a model.

    The averaged (EMA) weights are taken where the file has them. torchvision's ResNet weights go
    into ``model.backbone``.

    Args:
        path: what ``read_checkpoint`` reads.
        strict: whether the file must hold everything the model has. If not, what is missing or
            has another shape keeps its initial values, with a warning.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read, does not hold what ``strict``
            demands, or has nothing in common with the model.
    """
    checkpoint = read_checkpoint(path)
    averaged = checkpoint.get("ema")
    weights = averaged["model"] if averaged else checkpoint["model"]
    source = f"{path} ({'EMA weights' if averaged else 'weights'})"
    return load_state(model, to_our_names(weights), strict=strict, source=source)


def load_state(
    model: nn.Module, weights: Mapping[str, Tensor], *, strict: bool, source: str
) -> LoadReport:
    """As ``load_weights`` with the weights themselves; ``source`` names them in messages."""
    if weights and all(name.startswith(_WRAPPER) for name in weights):
        weights = {name.removeprefix(_WRAPPER): value for name, value in weights.items()}
    own = model.state_dict()
    mismatched = {
        name: f"{name}: {tuple(weights[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    }
    fitting = {n: v for n, v in weights.items() if n in own and n not in mismatched}
    report = LoadReport(
        loaded=tuple(fitting),
        missing=tuple(n for n in own if n not in weights and not n.endswith(_OPTIONAL)),
        unexpected=tuple(name for name in weights if name not in own),
        mismatched=tuple(mismatched.values()),
    )
    if not fitting or (strict and (report.missing or report.mismatched)):
        raise ValueError(f"{source} does not fit the model. " + ". ".join(report.problems()))
    model.load_state_dict(fitting, strict=False)
    logger.info("Loaded %d of %d tensors from %s", len(fitting), len(own), source)
    for problem in report.problems():
        logger.warning("%s, %s", source, problem)
    return report
