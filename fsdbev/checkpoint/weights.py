"""Loading weights into a model, with a report of what did not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from .convert import to_our_names
from .files import read_checkpoint

logger = logging.getLogger(__name__)

_OPTIONAL = "num_batches_tracked"  # a counter that old weights lack and nothing here reads


@dataclass(frozen=True)
class LoadReport:
    """What became of the names of a model and of a file.

    Attributes:
        loaded: names that fit.
        missing: names of the model that the file lacks.
        unexpected: names of the file that the model lacks.
        mismatched: name -> ``shape in the file, not shape in the model``.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, str] = field(default_factory=dict)

    def num_problems(self) -> int:
        """How many names did not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.mismatched)

    def problems(self) -> list[str]:
        """One line for each kind of thing that did not fit, with names by the part of the model."""
        shapes = "; ".join(f"{name}: {shapes}" for name, shapes in self.mismatched.items())
        found = (_by_part(self.missing), shapes, _by_part(self.unexpected))
        return [f"{kind}: {names}" for kind, names in zip(_KINDS, found) if names]

    def listing(self, name_of: Callable[[str], str] = str) -> str:
        """Every name that did not fit, one a line below its kind.

        Args:
            name_of: the name to show for one of the model's.
        """
        shapes = [f"{name_of(name)}: {shapes}" for name, shapes in self.mismatched.items()]
        found = (map(name_of, self.missing), shapes, map(name_of, self.unexpected))
        kinds = [(kind, list(names)) for kind, names in zip(_KINDS, found)]
        return "\n".join(
            "\n    ".join([f"  {kind} ({len(names)}):", *names]) for kind, names in kinds if names
        )


_KINDS = ("not in the file", "of another shape", "in the file but not in the model")


def _by_part(names: Iterable[str]) -> str:
    """``neck 18 (neck.lateral3.weight, ...), head 2 (...)``: names by the part of the model."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name.split(".")[0], []).append(name)
    return ", ".join(
        f"{part} {len(names)} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for part, names in parts.items()
    )


def compare(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> LoadReport:
    """What of ``weights`` fits ``own``, a model's ``state_dict()``, by name and shape."""
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


def read_weights(path: str) -> tuple[dict[str, Tensor], str]:
    """The weights of a checkpoint file, under the names they have there.

    The averaged (EMA) weights are taken where the file has them beside others.

    Returns:
        the weights, and what to call them in messages.

    Raises:
        FileNotFoundError, ValueError: ``read_checkpoint`` cannot read it, or it has no weights.
    """
    checkpoint = read_checkpoint(path)
    averaged = checkpoint.get("ema")
    has_average = isinstance(averaged, Mapping) and "model" in averaged
    weights = averaged["model"] if has_average else checkpoint["model"]
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(f"{path!r} holds no weights, but {weights!r:.100}")
    others = [
        f"{name!r} ({type(value).__name__})"
        for name, value in weights.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if others:
        raise ValueError(
            f"{path!r} holds no weights: at the top, under 'state_dict' or under 'model' there are "
            f"to be tensors by name, and these are none: {', '.join(others)}"
        )
    return dict(weights), f"{path} ({'EMA weights' if has_average else 'weights'})"


def load_weights(model: nn.Module, path: str, *, strict: bool) -> LoadReport:
    """Loads the weights of a file into a model.

    What ``read_weights`` reads, under names that ``to_our_names`` knows: a checkpoint of ours or of
    the FSD-BEV release, or torchvision's ResNet, which goes into ``model.backbone``.

    Args:
        strict: whether the file must hold what the model has and nothing else. If not, what is
            missing or has another shape keeps its initial values, with a warning.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read, does not hold what ``strict``
            demands, or has nothing in common with the model.
    """
    weights, source = read_weights(path)
    return load_state(model, to_our_names(weights), strict=strict, source=source)


def load_state(
    model: nn.Module, weights: Mapping[str, Tensor], *, strict: bool, source: str
) -> LoadReport:
    """As ``load_weights`` with the weights themselves; ``source`` names them in messages."""
    own = model.state_dict()
    report = compare(weights, own)
    problems = report.problems()
    if not report.loaded or (strict and problems):
        raise ValueError(f"{source} does not fit the model. " + ". ".join(problems))
    model.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    logger.info("Loaded %d of %d tensors from %s", len(report.loaded), len(own), source)
    for problem in problems:
        logger.warning("%s, %s", source, problem)
    return report
