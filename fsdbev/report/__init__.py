"""The report of an evaluation: ``report.html``, which :mod:`.writer` writes.

This file does not import the writer. That needs nuScenes' devkit, whose import takes a second; the
predictor and other evaluators do without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsdbev.config.difference import Change
from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.data.dataset import FrameDataset
from fsdbev.structures import BEVGrid

__all__ = ["Evaluated", "ReportSource"]


@dataclass(frozen=True)
class ReportSource:
    """Where what is evaluated comes from.

    Attributes:
        config_file: its path; "" where the config is from none.
        overrides: of the command line.
        changes: what differs from the base that the command line gives; None without one.
        base: the base's config file.
        weights: which, in words.
    """

    config_file: str = ""
    overrides: Sequence[str] = ()
    changes: Sequence[Change] | None = None
    base: str | None = None
    weights: str = ""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that has ended.

    Attributes:
        results: metrics by task, as the evaluators gave them.
        evaluators: that gave them.
        dataset: what was evaluated on; None where it is no frame index, which pictures are made of.
        grid: where the model looks, which pictures show; None where that is not known.
    """

    results: Mapping[str, Any]
    evaluators: Sequence[DatasetEvaluator]
    dataset: FrameDataset | None
    grid: BEVGrid | None = None
