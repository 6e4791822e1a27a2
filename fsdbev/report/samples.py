"""Section of the report with the best and the worst samples."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from fsdbev.data.dataset import FrameDataset
from fsdbev.evaluation import ScoredDetections
from fsdbev.evaluation.submission import sample_predictions
from fsdbev.structures import BEVGrid
from fsdbev.visualization import BEVArea, draw_sample, rows_of

from .page import Card, Cards, Section, jpeg_address
from .sections import class_title, counted


def sample_section(
    scored: ScoredDetections, dataset: FrameDataset | None, count: int, grid: BEVGrid | None = None
) -> Section:
    """Creates the section of the worst and best samples by F1.

    Args:
        scored: metrics and analysis.
        dataset: data set from which the pictures are drawn; None for no pictures.
        count: number of worst and of best samples.
        grid: range of the bird's-eye view; None for the ranges of the classes.
    """
    analysis = scored.analysis
    text = [
        f"Samples are ranked by F1 = 2 TP / (2 TP + FP + FN) over all classes, with predictions of "
        f"score {analysis.point.score:.3f} and more and matches within "
        f"{analysis.error_threshold:g} m. Each scene contributes at most one sample, as long as "
        "there are enough scenes.",
        "In the pictures, predictions are solid boxes in class colours, ground-truth boxes are "
        "dashed white. Boxes beyond the evaluation range of their class are drawn, but not "
        "counted.",
    ]
    if dataset is None:
        text[1] = "There are no pictures: the evaluation did not read a frame index."
    blocks = [
        Cards(title, [_card(scored, sample, dataset, grid) for sample in samples])
        for title, samples in (
            ("Worst", analysis.samples.worst(count, scored.scene_names)),
            ("Best", analysis.samples.best(count, scored.scene_names)),
        )
        if samples
    ]
    return Section("samples", "Worst and best samples", text, blocks)


def _card(
    scored: ScoredDetections, sample: int, dataset: FrameDataset | None, grid: BEVGrid | None
) -> Card:
    """Describes a sample; ``sample`` is its index in ``scored``."""
    counts = scored.analysis.samples
    found, missed, false = (part[sample] for part in (counts.found, counts.missed, counts.false))
    truth = counted(int((found + missed).sum()), "ground-truth box", "ground-truth boxes")
    lines = [
        f"Found {found.sum()} of {truth}.",
        f"Missed: {_by_class(missed, scored.analysis.names)}.",
        f"False positives: {_by_class(false, scored.analysis.names)}.",
    ]
    address = ""
    if dataset is not None:
        try:
            address = jpeg_address(_picture(scored, sample, dataset, grid))
        except (OSError, ValueError) as error:
            # A missing or damaged image must not prevent the report of the numbers.
            lines.append(f"There is no picture: {error}")
    return Card(
        title=f"{scored.scene_names[sample]}, sample {scored.sample_tokens[sample]}",
        badge=f"F1 {counts.f1[sample]:.2f}",
        lines=lines,
        address=address,
    )


def _picture(
    scored: ScoredDetections, sample: int, dataset: FrameDataset, grid: BEVGrid | None
) -> np.ndarray:
    """Draws the cameras and the bird's-eye view of a sample; returns (H, W, 3) uint8 RGB."""
    (row,) = rows_of(dataset.index, [scored.sample_tokens[sample]])
    score = scored.analysis.point.score
    boxes = sample_predictions(dataset.index[row], scored.results, score, dataset.classes)
    area = None if grid is None else BEVArea.of_grid(grid)
    return draw_sample(dataset, row, boxes, area=area)


def _by_class(counts: Sequence[int], names: Sequence[str]) -> str:
    """Formats numbers of boxes, such as ``7 (4 person, 3 van)``, most frequent class first.

    Args:
        counts: C numbers of boxes.
        names: C class names.
    """
    named = [(int(count), name) for count, name in zip(counts, names, strict=True) if count]
    if not named:
        return "none"
    named.sort(key=itemgetter(0), reverse=True)
    texts = [f"{count} {class_title(name)}" for count, name in named]
    return f"{sum(count for count, _ in named)} ({', '.join(texts)})"
