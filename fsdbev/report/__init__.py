"""Report of an evaluation as a web page, ``report.html``, written by :mod:`.writer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsdbev.config.difference import Change
from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.data.dataset import FrameDataset
from fsdbev.structures import BEVGrid

# The writer is not imported here: it needs nuScenes' devkit, whose import takes a second, and the
# predictor and other evaluators do without the devkit.
__all__ = ["Evaluated", "ReportSource"]


@dataclass(frozen=True)
class ReportSource:
    """Origin of the evaluated config and weights.

    Attributes:
        config_file: path of the config file; "" for a config that does not come from a file.
        overrides: ``key=value`` overrides of the command line.
        changes: differences from the base config of ``--diff-config``; None without a base.
        base: path of the base config.
        weights: description of the evaluated weights.
    """

    config_file: str = ""
    overrides: Sequence[str] = ()
    changes: Sequence[Change] | None = None
    base: str | None = None
    weights: str = ""


@dataclass(frozen=True)
class Evaluated:
    """Result of a completed evaluation.

    Attributes:
        results: metrics by task, as returned by the evaluators.
        evaluators: the evaluators, after ``evaluate``.
        dataset: the evaluated data set, from which the pictures are drawn; None if it is not a
            frame index.
        grid: the model's BEV grid, which sets the range of the pictures; None if unknown.
    """

    results: Mapping[str, Any]
    evaluators: Sequence[DatasetEvaluator]
    dataset: FrameDataset | None
    grid: BEVGrid | None = None
