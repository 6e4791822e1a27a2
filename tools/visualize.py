#!/usr/bin/env python
"""Draws samples, one PNG a sample.

    python tools/visualize.py truth --index F.arrow --dataroot D --out DIR
    python tools/visualize.py results --index F.arrow --dataroot D --out DIR --results R.json
    python tools/visualize.py data --config-file configs/fsdbev_r50_cbgs.py --out DIR \\
        [--augmented SEED] [key=value ...]

``truth`` draws the annotations on all cameras and from above, ``results`` the predictions of a
submission file over them. ``data`` draws what training sees: depth and foreground labels, heatmaps
and boxes on the stored images, and with --augmented also on the images that the network gets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

# ruff: noqa: E402  after the path is set, for use without installation
from command_line import exit_status

from fsdbev.d2.config import instantiate
from fsdbev.data.index import FrameIndex
from fsdbev.data.records import Frame
from fsdbev.engine import load_config
from fsdbev.evaluation import boxes_from_submission, read_submission
from fsdbev.structures import CLASS_NAMES
from fsdbev.visualization import (
    LabelledBoxes,
    augmented_sample,
    choose_rows,
    draw_sample,
    rows_of,
    stored_sample,
    target_sheet,
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    raw = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(description=__doc__, **raw)
    modes = parser.add_subparsers(dest="mode", required=True, metavar="{truth,results,data}")
    for mode in ("truth", "results", "data"):
        add = modes.add_parser(mode, description=__doc__, **raw).add_argument
        add("--out", required=True, help="folder for the pictures")
        samples = "how many, spread evenly over the index, or their tokens (default: 6)"
        add("--samples", nargs="+", default=["6"], help=samples)
        if mode == "data":
            add("--config-file", required=True, help="its dataloader has data set and mapper")
            add("--split", choices=["train", "test"], default="train", help="default: train")
            add("--augmented", type=int, metavar="SEED", help="also as the network gets them")
            add("overrides", nargs="*", metavar="key=value", help="changes to the config")
        else:
            add("--index", required=True, help="frame index of the split (.arrow)")
            add("--dataroot", required=True, help="folder the index' image paths start from")
        if mode == "results":
            add("--results", required=True, help="submission file")
            add("--score-threshold", type=float, default=0.2, help="hide lower ones (default: 0.2)")
    result = parser.parse_args(arguments)
    if result.mode == "data":  # overrides that stand right behind the samples
        result.overrides += [text for text in result.samples if "=" in text]
        result.samples = [text for text in result.samples if "=" not in text]
    return result


def chosen_rows(index: FrameIndex, samples: Sequence[str]) -> list[int]:
    """Rows that --samples means."""
    is_count = len(samples) == 1 and samples[0].isdigit() and len(samples[0]) < 9
    return choose_rows(index, int(samples[0])) if is_count else rows_of(index, samples)


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


def draw_boxes(args: argparse.Namespace) -> None:
    """Modes 'truth' and 'results'."""
    index = FrameIndex(args.index)
    rows = chosen_rows(index, args.samples)
    submission = read_submission(args.results) if args.mode == "results" else None
    for row in rows:
        frame, predictions = index[row], None
        if submission is not None:
            predictions = predictions_of(frame, submission, args.score_threshold)
        save(draw_sample(index, row, args.dataroot, predictions), args.out, frame, row)


def draw_data(args: argparse.Namespace) -> None:
    """Mode 'data'. Targets are those of training, in the test split as well."""
    loaders = load_config(args.config_file, args.overrides).dataloader
    dataset = instantiate(loaders[args.split].dataset)
    mapper = instantiate(loaders.train.mapper)
    for row in chosen_rows(dataset.index, args.samples):
        frame = dataset.index[row]
        stored = stored_sample(dataset, row, mapper)
        save(target_sheet(stored), args.out, frame, row, "_stored")
        if args.augmented is not None:
            augmented = augmented_sample(dataset, row, mapper, args.augmented)
            save(target_sheet(augmented), args.out, frame, row, f"_augmented{args.augmented}")


def save(picture: np.ndarray, folder: str, frame: Frame, row: int, kind: str = "") -> None:
    """Writes the picture of a sample and prints its path."""
    path = Path(folder) / f"{frame.scene_name}_{row:05d}_{frame.sample_token}{kind}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    return exit_status(draw_data if args.mode == "data" else draw_boxes, args)


if __name__ == "__main__":
    sys.exit(main())
