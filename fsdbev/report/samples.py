"""The best and the worst samples, with pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fsdbev.data.dataset import FrameDataset
from fsdbev.evaluation import CLASSES, ScoredDetections
from fsdbev.evaluation.submission import predictions_of
from fsdbev.structures import BEVGrid
from fsdbev.visualization import REACH, draw_sample, rows_of

from .page import Card, Cards, Section, jpeg_address
from .sections import class_title, counted


def sample_section(
    scored: ScoredDetections, dataset: FrameDataset | None, count: int, grid: BEVGrid | None = None
) -> Section:
    """``count`` samples each that went best and worst.

    Args:
        dataset: what pictures are drawn of; None: there are none.
        grid: what the view from above shows; None: as far as nuScenes evaluates.
    """
    analysis = scored.analysis
    text = [
        f"Samples by F1 = 2 found / (2 found + missed + false), over all classes, with predictions "
        f"of score {analysis.point.score:.3f} and more that find a true box within "
        f"{analysis.error_threshold:g} m. Of each scene only one sample is shown where there are "
        "scenes enough.",
        "In the pictures predictions are solid in class colours, true boxes dashed white. Boxes "
        "beyond the distance up to which nuScenes evaluates their class are drawn, not counted.",
    ]
    if dataset is None:
        text[1] = "There are no pictures: the data loader does not read a frame index."
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
    counts = scored.analysis.samples
    found, missed, false = (part[sample] for part in (counts.found, counts.missed, counts.false))
    lines = [
        f"Found {found.sum()} of {counted(int((found + missed).sum()), 'true box', 'true boxes')}.",
        f"Missed: {_by_class(missed)}.",
        f"False alarms: {_by_class(false)}.",
    ]
    address = ""
    if dataset is not None:
        try:
            address = jpeg_address(_picture(scored, sample, dataset, grid))
        except (OSError, ValueError) as error:  # an image is gone; the numbers stand without it
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
    (row,) = rows_of(dataset.index, [scored.sample_tokens[sample]])
    score = scored.analysis.point.score
    boxes = predictions_of(dataset.index[row], scored.results, score)
    reach = REACH if grid is None else grid.reach
    return draw_sample(dataset.index, row, dataset.dataroot, boxes, reach=reach)


def _by_class(counts: Sequence[int]) -> str:
    """``7 (4 pedestrian, 3 car)``, the most frequent first."""
    named = [(int(count), name) for count, name in zip(counts, CLASSES, strict=True) if count]
    if not named:
        return "none"
    texts = [f"{count} {class_title(name)}" for count, name in sorted(named, key=lambda n: -n[0])]
    return f"{sum(count for count, _ in named)} ({', '.join(texts)})"
