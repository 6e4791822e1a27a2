"""Writing the report of an evaluation. It comes after the metrics and never stands in their way."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.evaluation import NuScenesEvaluator, ScoredDetections
from fsdbev.utils.atomic_write import atomic_write

from . import Evaluated, ReportSource, sections
from .page import Fact, Page, render
from .samples import sample_section

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"


def write_report(cfg: DictConfig, source: ReportSource, evaluated: Evaluated) -> None:
    """Writes ``report.html`` into the output folder, if ``train.report`` asks for it and something
    was scored.

    The metrics are worth more than the page: whatever goes wrong here is logged as an error with
    its traceback, and nothing is raised. A report of an earlier evaluation is removed at first, so
    that what stands there belongs to the metrics beside it.
    """
    options = cfg.train.get("report") or {}
    if not options.get("enabled", False):
        return
    path = os.path.join(cfg.train.output_dir, REPORT_FILE)
    try:
        Path(path).unlink(missing_ok=True)
        if not evaluated.results:
            logger.info("No metrics were computed, so there is no %s", REPORT_FILE)
            return
        text = render(_page(source, evaluated, options.get("samples", 0), datetime.now()))
        with atomic_write(path) as file:
            file.write(text.encode())
        logger.info("Wrote the report to %s", path)
    except Exception:
        logger.exception("The report %s could not be written; the metrics are not affected", path)


def _page(source: ReportSource, evaluated: Evaluated, samples: int, now: datetime) -> Page:
    scored = _scored_detections(evaluated.evaluators)
    if scored is None:
        logger.info("The evaluator tells nothing but its metrics: a short report")
        parts = [sections.metrics_section(evaluated.results)]
    else:
        parts = sections.detection_sections(scored)
        parts.append(sample_section(scored, evaluated.dataset, samples, evaluated.grid))
    name = Path(source.config_file).stem
    return Page(
        title=f"Evaluation of {name}" if name else "Evaluation",
        facts=[*_facts(source, scored), Fact("written", f"{now:%Y-%m-%d %H:%M}")],
        headlines=[] if scored is None else sections.headlines(scored.summary),
        sections=[
            *parts,
            sections.config_section(source.overrides, source.changes, source.base),
            sections.environment_section(),
        ],
    )


def _scored_detections(evaluators: Sequence[DatasetEvaluator]) -> ScoredDetections | None:
    """Of the first evaluator that scored detections as nuScenes does."""
    for evaluator in evaluators:
        if isinstance(evaluator, NuScenesEvaluator):
            return evaluator.scored_detections()
    return None


def _facts(source: ReportSource, scored: ScoredDetections | None) -> list[Fact]:
    facts = []
    if scored is not None:
        facts += [
            Fact("data set", scored.version),
            Fact("split", scored.split),
            Fact("samples", f"{len(scored.sample_tokens)}"),
            Fact("scenes", f"{len(set(scored.scene_names))}"),
        ]
    return facts + [
        Fact("config", source.config_file or "from no file"),
        Fact("weights", source.weights or "not stated"),
    ]
