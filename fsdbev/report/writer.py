"""Writing of the report of an evaluation or of a results file."""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from fsdbev.data.dataset import FrameDataset
from fsdbev.evaluation import DetectionEvaluator, ScoredDetections
from fsdbev.utils.atomic_write import atomic_write

from . import Evaluated, ReportSource, sections
from .page import Fact, Page, render_page
from .samples import sample_section

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"


def write_report(cfg: DictConfig, source: ReportSource, evaluated: Evaluated) -> None:
    """Writes ``report.html`` into the output folder, if ``train.report.enabled`` is set and there
    are metrics.

    Errors are logged with their traceback and not raised. A report of an earlier evaluation is
    removed first, so that a report in the folder always belongs to the metrics there.

    Args:
        cfg: config of the evaluation; ``train.output_dir`` and ``train.report`` are used.
        source: origin of config and weights, shown on the page.
        evaluated: result of the evaluation.
    """
    # A config of a run before there were reports has no train.report.
    options = cfg.train.get("report") or {}
    if not options.get("enabled", False):
        return
    path = os.path.join(cfg.train.output_dir, REPORT_FILE)
    try:
        Path(path).unlink(missing_ok=True)
        if not evaluated.results:
            logger.info("No metrics were computed, so there is no %s", REPORT_FILE)
            return
        _write(_page(source, evaluated, options.get("samples", 0), datetime.now()), path)
    except Exception:
        # Any error: a report must not cost the metrics of a long evaluation.
        logger.exception("The report %s could not be written; the metrics are not affected", path)


def write_results_report(
    path: str | os.PathLike,
    results: str,
    scored: ScoredDetections,
    dataset: FrameDataset | None,
    samples: int = 4,
) -> None:
    """Writes the report of a results file, without config and weights.

    Args:
        path: path of the report.
        results: path of the results file, shown on the page.
        scored: its metrics and analysis.
        dataset: data set from which the pictures are drawn; None for no pictures.
        samples: number of worst and of best samples.
    """
    page = Page(
        title=f"Evaluation of {Path(results).name}",
        facts=[
            *_scored_facts(scored),
            Fact("results", str(results)),
            Fact("meta", json.dumps(scored.summary["meta"])),
            Fact("written", f"{datetime.now():%Y-%m-%d %H:%M}"),
        ],
        headlines=sections.headlines(scored.summary),
        sections=[
            *sections.detection_sections(scored),
            sample_section(scored, dataset, samples),
            sections.environment_section(),
        ],
    )
    _write(page, path)


def _write(page: Page, path: str | os.PathLike) -> None:
    """Renders and writes a page."""
    with atomic_write(path) as file:
        file.write(render_page(page).encode())
    logger.info("Wrote the report to %s", path)


def _page(source: ReportSource, evaluated: Evaluated, samples: int, now: datetime) -> Page:
    """Creates the page; ``samples`` is the number of worst and of best samples."""
    evaluator = next((e for e in evaluated.evaluators if isinstance(e, DetectionEvaluator)), None)
    scored = None if evaluator is None else evaluator.scored_detections()
    if scored is None:
        logger.info("There is no DetectionEvaluator, so the report has only the metrics")
        parts = [sections.metrics_section(evaluated.results)]
    else:
        parts = sections.detection_sections(scored)
        parts.append(sample_section(scored, evaluated.dataset, samples, evaluated.grid))
        # Those of further evaluators; the sections above show this one's.
        others = {k: v for k, v in evaluated.results.items() if k != evaluator.task_name}
        if others:
            parts.append(sections.metrics_section(others))
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


def _facts(source: ReportSource, scored: ScoredDetections | None) -> list[Fact]:
    """Returns the properties of the evaluation for the head of the page."""
    facts = [] if scored is None else _scored_facts(scored)
    return facts + [
        Fact("config", source.config_file or "not from a file"),
        Fact("weights", source.weights or "not stated"),
    ]


def _scored_facts(scored: ScoredDetections) -> list[Fact]:
    """Returns the properties of the evaluated data."""
    return [
        *(Fact(name, value) for name, value in scored.facts.items()),
        Fact("samples", f"{len(scored.sample_tokens)}"),
        Fact("scenes", f"{len(set(scored.scene_names))}"),
    ]
