#!/usr/bin/env python
"""Draws samples as PNG files, or a scene as a video.

    python tools/visualize.py truth --index F.arrow --dataroot D --out DIR
    python tools/visualize.py results --index F.arrow --dataroot D --out DIR --results R.json
    python tools/visualize.py data --config-file configs/fsdbev_r50_cbgs.py --out DIR \\
        [--augmented SEED] [key=value ...]
    python tools/visualize.py diagnostics --config-file configs/fsdbev_r50_cbgs.py --weights W \\
        --out DIR [key=value ...]
    python tools/visualize.py scene --index F.arrow --dataroot D --scene NAME --out FILE.mp4 \\
        [--results R.json] [--fps 2]

truth        annotations on all camera images and in the BEV view
results      predictions of a submission file, drawn over the annotations
data         training targets: depth and foreground labels, heatmaps and boxes on the stored
             images; with --augmented also on the augmented network images
diagnostics  outputs of a model: detections, depth, foreground and the attention of the boxes in
             each camera; in BEV the features of the student, those of the teacher if the sample
             has labels, and the center heatmap
scene        truth or results for all samples of a scene, with past trajectories, as a video
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from command_line import exit_status, intermix_overrides, tool_parser
from PIL import Image

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.index.records import Frame
from fsdbev.evaluation import read_submission
from fsdbev.evaluation.submission import sample_predictions
from fsdbev.inference import diagnose, load_model
from fsdbev.visualization import (
    BEVArea,
    VideoWriter,
    augmented_sample,
    choose_rows,
    diagnostics_sheet,
    draw_sample,
    labelled_sample,
    rows_of,
    rows_of_scene,
    stored_sample,
    target_sheet,
    title_of,
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    modes = parser.add_subparsers(dest="mode", required=True, parser_class=tool_parser)
    for mode in MODES:
        mode_parser = modes.add_parser(mode, description=__doc__)
        mode_parser.set_defaults(results=None)
        add = mode_parser.add_argument
        if mode == "scene":
            add("--scene", required=True, metavar="NAME", help="name of a scene of the index")
            add("--out", required=True, help="video file (.mp4, .mkv or .mov)")
            add("--fps", type=float, default=2.0, help="samples per second (default: 2)")
        else:
            add("--out", required=True, help="folder for the pictures")
            samples = (
                "number of samples, spread evenly over the index, or sample tokens (default: 6)"
            )
            add("--samples", nargs="+", default=["6"], help=samples)
        if mode in ("data", "diagnostics"):
            add_config_arguments(add, mode)
        else:
            add("--index", required=True, help="frame index of the split (.arrow)")
            add("--dataroot", required=True, help="folder that image paths are relative to")
            cameras = "cameras to draw, with the objects that they see (default: all)"
            add("--cameras", nargs="+", metavar="NAME", help=cameras)
            reach = "half the side of the BEV view in metres (default: a tenth more than the range "
            reach += "of the index's classes)"
            add("--reach", type=float, metavar="M", help=reach)
        if mode in ("results", "scene"):
            add("--results", required=mode == "results", help="nuScenes submission file")
        if mode in ("results", "diagnostics", "scene"):
            threshold = "least score of the boxes to draw (default: 0.2)"
            add("--score-threshold", type=float, default=0.2, help=threshold)
    result, rest = parser.parse_known_args(arguments)
    if result.mode in ("data", "diagnostics"):
        # --samples takes any number of values, so that overrides right after it end up there.
        rest = [text for text in result.samples if "=" in text] + rest
        result.samples = [text for text in result.samples if "=" not in text]
    intermix_overrides(parser, result, rest)
    return result


def add_config_arguments(add: Callable[..., Any], mode: str) -> None:
    """Adds the options of modes that read a config."""
    add("--config-file", required=True, help="config file with a dataloader")
    split = "train" if mode == "data" else "test"
    add("--split", choices=["train", "test"], default=split, help=f"split (default: {split})")
    if mode == "data":
        augmented = "also draw augmented network images, with this seed"
        add("--augmented", type=int, metavar="SEED", help=augmented)
    else:
        add("--weights", help="checkpoint, same as train.init_checkpoint=FILE")
    add("overrides", nargs="*", metavar="key=value", help="changes to the config")


def chosen_rows(index: FrameIndex, samples: Sequence[str]) -> list[int]:
    """Returns the rows that --samples selects."""
    # Longer strings of digits are tokens.
    is_count = len(samples) == 1 and samples[0].isdigit() and len(samples[0]) < 9
    return choose_rows(index, int(samples[0])) if is_count else rows_of(index, samples)


def open_index(args: argparse.Namespace) -> FrameDataset:
    """Opens the data set of --index, --dataroot and --cameras."""
    index = FrameIndex(args.index)
    return FrameDataset(Path(index.path).stem, index, Path(args.dataroot), cameras=args.cameras)


def draw_rows(
    args: argparse.Namespace, dataset: FrameDataset, rows: Sequence[int], *, trails: bool = False
) -> Iterator[np.ndarray]:
    """Reads --results, if given, and returns an iterator over the pictures of the rows."""
    classes, submission = dataset.classes, None
    if args.results is not None:
        submission = read_submission(args.results, classes)
    area = None if args.reach is None else BEVArea(args.reach)

    def draw(row: int) -> np.ndarray:
        boxes = None
        if submission is not None:
            frame = dataset.index[row]
            boxes = sample_predictions(frame, submission, args.score_threshold, classes)
        return draw_sample(dataset, row, boxes, trails=trails, area=area)

    return map(draw, rows)


def draw_boxes(args: argparse.Namespace) -> None:
    """Runs the modes 'truth' and 'results'."""
    dataset = open_index(args)
    rows = chosen_rows(dataset.index, args.samples)
    for row, picture in zip(rows, draw_rows(args, dataset, rows)):
        save(picture, args.out, dataset.index[row], row)


def draw_scene(args: argparse.Namespace) -> None:
    """Runs the mode 'scene'."""
    dataset = open_index(args)
    rows = rows_of_scene(dataset.index, args.scene)
    pictures = draw_rows(args, dataset, rows, trails=True)
    with VideoWriter(args.out, args.fps) as video:
        for picture in pictures:
            video.add(picture)
    print(args.out)


def draw_diagnostics(args: argparse.Namespace) -> None:
    """Runs the mode 'diagnostics'."""
    cfg = load_config(args.config_file, args.overrides)
    weights = args.weights or cfg.train.init_checkpoint
    if not weights:
        raise ValueError("diagnostics need a trained model; give --weights FILE")
    model = load_model(cfg, weights)
    loader = cfg.dataloader[args.split]
    dataset, mapper = instantiate(loader.dataset), instantiate(cfg.dataloader.test.mapper)
    for row in chosen_rows(dataset.index, args.samples):
        sample = labelled_sample(dataset, row, mapper)
        frame = dataset.frame(row)
        diagnostics = diagnose(
            model,
            sample,
            camera_names=frame.channels,
            score_threshold=args.score_threshold,
            title=title_of(frame),
        )
        save(diagnostics_sheet(diagnostics), args.out, frame, row, "_diagnostics")


def draw_data(args: argparse.Namespace) -> None:
    """Runs the mode 'data'."""
    # The mapper of training makes the targets, for the test split too.
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
    """Writes the picture of a sample as PNG and prints the path."""
    path = Path(folder) / f"{frame.scene_name}_{row:05d}_{frame.sample_token}{kind}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    print(path)


MODES = {
    "truth": draw_boxes,
    "results": draw_boxes,
    "data": draw_data,
    "diagnostics": draw_diagnostics,
    "scene": draw_scene,
}


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    return exit_status(MODES[args.mode], args)


if __name__ == "__main__":
    sys.exit(main())
