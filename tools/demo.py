#!/usr/bin/env python
"""Runs a model on your own cameras: pictures, a video and JSON.

    python tools/demo.py --config-file configs/fsdbev_tiny_synthetic.py --weights model_final.pth \\
        --rig rig.yaml --images front=f.jpg left=l.jpg right=r.jpg --out output/demo
    python tools/demo.py ... --images 'front=f/*.jpg' 'left=l/*.jpg' 'right=r/*.jpg' --poses p.json
    python tools/demo.py ... --images FOLDER                          # FOLDER/<camera>/*.jpg
    python tools/demo.py ... --video front=f.mp4 left=l.mp4 right=r.mp4 --standing

The rig file (JSON or YAML) has intrinsics, mount and image size of every camera;
docs/own_cameras.md explains it. In --out: detections.json, pictures/<moment>.jpg, and, of several
moments, detections.mp4; with --diagnostics also beliefs/<moment>.jpg, what the model believes. Those of
an earlier run are replaced.

A model of several frames looks back where the vehicle's poses are known: --poses, a JSON list with
a 4 x 4 matrix ego2global for every moment (or one for every camera of it), or --standing for a rig
that does not move. Without, every moment stands alone, and speeds are guesses.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from command_line import exit_status, tool_parser
from PIL import Image

from fsdbev.data.io.recording import RecordedFrame, frames_from_images, frames_from_videos
from fsdbev.data.io.rig_file import read_rig, rig_content
from fsdbev.evaluation.submission import write_json
from fsdbev.inference import Predictor, diagnose
from fsdbev.inference.predictor import read_images
from fsdbev.structures import Cameras, LabelledBoxes, Rig
from fsdbev.utils.atomic_write import atomic_write
from fsdbev.visualization import CameraView, VideoWriter, mosaic
from fsdbev.visualization import diagnostics_sheet as diagnostics_sheet

CONVENTIONS = (
    "ego of the reference camera's time: x forward, y left, z up; center of the box; size: length, "
    "width, height; yaw counter-clockwise from x; metres, rad, m/s"
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--config-file", required=True, help="config of the model")
    add("--weights", required=True, help="its weights, as train.init_checkpoint takes them")
    add("--rig", required=True, help="rig file (.json, .yaml)")
    source = parser.add_mutually_exclusive_group(required=True)
    images = "a file or pattern a camera (camera=..., or in the rig's order), or a folder"
    source.add_argument("--images", nargs="+", metavar="FILE", help=images)
    source.add_argument("--video", nargs="+", metavar="FILE", help="a video a camera, likewise")
    add("--out", default="output/demo", help="folder of the results (default: %(default)s)")
    poses = parser.add_mutually_exclusive_group()
    poses.add_argument("--poses", help="JSON list of ego2global, one a moment")
    poses.add_argument("--standing", action="store_true", help="the rig does not move")
    rate = "moments a second that are taken of videos, and shown of the result (default: 2)"
    add("--rate", type=float, default=2.0, help=rate)
    shown = "pictures hide boxes that score lower; the JSON has all (default: 0.3)"
    add("--score-threshold", type=float, default=0.3, help=shown)
    add("--diagnostics", action="store_true", help="also draw depth, foreground, attention, BEV")
    add("--opts", nargs="+", default=[], metavar="key=value", help="changes to the config")
    result = parser.parse_args(arguments)
    if not 0 < result.rate < float("inf"):
        parser.error(f"--rate must be positive, got {result.rate}")
    return result


def read_poses(args: argparse.Namespace) -> Iterator[Any]:
    """ego2global of every moment; None where it is not known."""
    if args.standing:
        return repeat(np.eye(4))
    if args.poses is None:
        return repeat(None)
    try:
        poses = json.loads(Path(args.poses).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{args.poses}: not JSON ({error})") from error
    if not isinstance(poses, list):
        raise ValueError(f"{args.poses}: a list with a matrix for every moment is needed")
    return iter(poses)


def run(args: argparse.Namespace) -> None:
    rig, poses = read_rig(args.rig), read_poses(args)
    frames = (
        frames_from_videos(args.video, rig, args.rate)
        if args.video
        else frames_from_images(args.images, rig, args.rate)
    )
    predictor = Predictor(args.config_file, args.weights, overrides=args.opts)
    found = []
    with Results(Path(args.out), args.rate) as results:
        for frame in frames:
            pixels, sample = take(predictor, frame, rig, poses, args)
            boxes = predictor.detect(sample)
            shown = boxes.at_least(args.score_threshold)
            results.add(frame.name, draw(predictor, frame, rig, pixels, sample, shown))
            if args.diagnostics:
                options = {"camera_names": rig.channels, "score_threshold": args.score_threshold}
                diagnostics = diagnose(predictor.model, sample, title=title_of(frame), **options)
                results.add_diagnostics(frame.name, diagnostics_sheet(diagnostics))
            found.append((frame, boxes))
            print(f"{frame.name}: {len(shown)} objects")
    if args.poses and next(poses, None) is not None:
        logging.warning("%s: there are more poses than moments", args.poses)
    path = results.folder / "detections.json"
    write_json(content(found, args, rig, predictor.class_names), path)
    print(path)


def take(
    predictor: Predictor,
    frame: RecordedFrame,
    rig: Rig,
    poses: Iterator[Any],
    args: argparse.Namespace,
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """The images of a moment, and as the model takes them; an error names the moment."""
    try:
        ego2global = next(poses)
    except StopIteration:
        raise ValueError(f"{args.poses}: there is no pose for frame {frame.name}") from None
    try:
        pixels = read_images(frame.images, rig)
        return pixels, predictor.sample(pixels, rig, ego2global=ego2global)
    except ValueError as error:
        raise ValueError(f"frame {frame.name}: {error}") from error


def draw(
    predictor: Predictor,
    frame: RecordedFrame,
    rig: Rig,
    pixels: Sequence[np.ndarray],
    sample: dict[str, Any],
    boxes: LabelledBoxes,
) -> np.ndarray:
    """(H, W, 3) picture of a moment: the cameras with the boxes, and the view from above."""
    cam2keyego = Cameras.from_samples([sample]).cam2keyego[0, 0]
    views = [
        CameraView(name, pixels[i], cam2keyego[i], rig.intrinsics[i])
        for i, name in enumerate(rig.channels)
    ]
    reach = predictor.model.grid.reach
    return mosaic(views, predictions=boxes, title=title_of(frame), reach=reach)


def title_of(frame: RecordedFrame) -> str:
    return f"frame {frame.name}   t = {frame.seconds:.2f} s"


class Results:
    """Pictures and, of several, a video; what an earlier run left goes when this one is done."""

    def __init__(self, folder: Path, rate: float) -> None:
        self.folder = folder
        self._written: set[Path] = set()
        self._video = VideoWriter(folder / "detections.mp4", rate)
        self._first: np.ndarray | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Results:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stack.__enter__()
        return self

    def add(self, name: str, picture: np.ndarray) -> None:
        """The next picture, of the video as well."""
        if not self._written:
            self._first = picture
        elif self._first is not None:
            self._stack.enter_context(self._video).add(self._first)
            self._first = None
        if self._first is None:
            self._video.add(picture)
        self._write(self.folder / "pictures" / f"{name}.jpg", picture)

    def add_diagnostics(self, name: str, sheet: np.ndarray) -> None:
        """A picture that is not of the video."""
        self._write(self.folder / "diagnostics" / f"{name}.jpg", sheet)

    def _write(self, path: Path, picture: np.ndarray) -> None:
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as file:
            Image.fromarray(picture).save(file, "JPEG", quality=90)
        self._written.add(path)

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is not None:
            return
        for kind in ("pictures", "diagnostics"):
            for left in set((self.folder / kind).glob("[0-9]*.jpg")) - self._written:
                left.unlink()
        if self._first is not None:
            self._video.path.unlink(missing_ok=True)


def content(
    found: Sequence[tuple[RecordedFrame, LabelledBoxes]],
    args: argparse.Namespace,
    rig: Rig,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """What detections.json holds."""
    frames = [
        {"name": frame.name, "seconds": frame.seconds, "detections": boxes.records(class_names)}
        for frame, boxes in found
    ]
    model = {"config": args.config_file, "weights": args.weights, "overrides": args.opts}
    return {"frame": CONVENTIONS, "model": model, "rig": rig_content(rig), "moments": frames}


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    return exit_status(run, args)


if __name__ == "__main__":
    sys.exit(main())
