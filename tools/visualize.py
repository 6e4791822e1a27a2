#!/usr/bin/env python
"""Draws samples: all cameras with their boxes beside the view from above, one PNG a sample.

    python tools/visualize.py truth --index F.arrow --dataroot D --out DIR
    python tools/visualize.py results --index F.arrow --dataroot D --out DIR --results R.json

``truth`` draws the annotations alone, ``results`` the predictions of a submission file over them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# ruff: noqa: E402  after the path is set, for use without installation
from fsdbev.data.index import FrameIndex
from fsdbev.data.records import Frame
from fsdbev.evaluation import boxes_from_submission, read_submission
from fsdbev.structures import CLASS_NAMES
from fsdbev.visualization import LabelledBoxes, choose_rows, draw_sample, rows_of


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["truth", "results"])
    parser.add_argument("--index", required=True, help="frame index of the split (.arrow)")
    parser.add_argument(
        "--dataroot", required=True, help="folder the index' image paths start from"
    )
    parser.add_argument("--out", required=True, help="folder for the pictures")
    parser.add_argument("--results", help="submission file, for mode 'results'")
    parser.add_argument(
        "--samples",
        nargs="+",
        default=["6"],
        help="how many, spread evenly over the index, or their tokens (default: 6)",
    )
    parser.add_argument(
        "--score-threshold", type=float, default=0.2, help="hide lower scores (default: 0.2)"
    )
    result = parser.parse_args(arguments)
    if (result.mode == "results") != (result.results is not None):
        parser.error("--results belongs to mode 'results' and is needed there")
    return result


def predictions_of(frame: Frame, submission: dict[str, list], threshold: float) -> LabelledBoxes:
    """The submitted boxes of one sample that score ``threshold`` or more, in key ego."""
    if frame.sample_token not in submission:
        raise ValueError(
            f"the submission has no sample {frame.sample_token}; it must be of the index' split"
        )
    boxes, scores, labels = boxes_from_submission(
        submission[frame.sample_token],
        key_ego2global=torch.tensor(frame.key_ego2global),
        class_names=CLASS_NAMES,
    )
    return LabelledBoxes(boxes, labels, scores).at_least(threshold)


def draw(args: argparse.Namespace) -> None:
    """Writes one picture a sample and prints its path."""
    index = FrameIndex(args.index)
    is_count = len(args.samples) == 1 and args.samples[0].isdigit() and len(args.samples[0]) < 9
    rows = choose_rows(index, int(args.samples[0])) if is_count else rows_of(index, args.samples)
    submission = read_submission(args.results) if args.results else None
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for row in rows:
        frame, predictions = index[row], None
        if submission is not None:
            predictions = predictions_of(frame, submission, args.score_threshold)
        path = out / f"{frame.scene_name}_{row:05d}_{frame.sample_token}.png"
        Image.fromarray(draw_sample(index, row, args.dataroot, predictions)).save(path)
        print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    try:
        draw(args)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
