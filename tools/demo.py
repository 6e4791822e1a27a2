#!/usr/bin/env python
"""Runs a model on images or videos of your own cameras and writes pictures, a video and JSON.

    python tools/demo.py                               # the released detector on a generated scene
    python tools/demo.py --config-file configs/fsdbev_tiny_synthetic.py --weights model_final.pth \\
        --rig rig.yaml --images front=f.jpg left=l.jpg right=r.jpg --out output/demo
    python tools/demo.py ... --images 'front=f/*.jpg' 'left=l/*.jpg' 'right=r/*.jpg' --poses p.json
    python tools/demo.py ... --images FOLDER                          # FOLDER/<camera>/*.jpg
    python tools/demo.py ... --video front=f.mp4 left=l.mp4 right=r.mp4 --standing

The rig file (JSON or YAML) contains intrinsics, mounting pose and image size of every camera, see
docs/own_cameras.md. Without images and videos, the tool generates a scene of two frames that no
training has seen, and also draws the ground truth within the model's grid. --weights zoo://NAME is
a released model and needs no --config-file; the default is zoo://fsdbev_street. The output folder
gets

    detections.json          all detected boxes
    pictures/<frame>.jpg     camera images and BEV view with the boxes
    detections.mp4           the same pictures as a video, for several frames
    diagnostics/<frame>.jpg  depth, foreground, attention and BEV features, with --diagnostics

Files of an earlier run are replaced.

A model of several frames uses earlier frames if the poses of the vehicle are known. --poses is a
JSON list with a 4 x 4 matrix ego2global for frames 0, 1, ..., or for each camera of each frame;
--standing is for a rig that does not move. Without either option, each frame is processed on its
own and velocities are unreliable.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from command_line import exit_status, tool_parser
from demonstration.recordings import Recording, make_recording
from demonstration.results import Results

from fsdbev.data.io.recording import RecordedFrame, frames_from_images, frames_from_videos
from fsdbev.data.io.rig_file import read_rig, rig_content
from fsdbev.inference import Predictor, diagnose
from fsdbev.inference.predictor import read_images
from fsdbev.model_zoo import config_path
from fsdbev.structures import Cameras, LabelledBoxes, Rig
from fsdbev.utils.atomic_write import write_json
from fsdbev.utils.folder_lock import locked_folder
from fsdbev.utils.model_cards import ZOO
from fsdbev.visualization import BEVArea, CameraView, diagnostics_sheet, mosaic

DETECTOR = f"{ZOO}fsdbev_street"
CONVENTIONS = (
    "ego of the reference camera's time: x forward, y left, z up; center of the box; size: length, "
    "width, height; yaw counter-clockwise from x; metres, rad, m/s"
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--config-file", help="config of the model (default: that of the released model)")
    weights = f"checkpoint, as for train.init_checkpoint (default: {DETECTOR})"
    add("--weights", help=weights)
    add("--rig", help="rig file (.json, .yaml)")
    source = parser.add_mutually_exclusive_group()
    images = "file or pattern for each camera (camera=... or in the rig's order), or one folder"
    source.add_argument("--images", nargs="+", metavar="FILE", help=images)
    video = "video for each camera (camera=... or in the rig's order)"
    source.add_argument("--video", nargs="+", metavar="FILE", help=video)
    add("--out", default="output/demo", help="output folder (default: %(default)s)")
    poses = parser.add_mutually_exclusive_group()
    poses.add_argument("--poses", help="JSON list of ego2global matrices, one per frame")
    poses.add_argument("--standing", action="store_true", help="the rig does not move")
    rate = "frames per second of the result, of videos as read, of the generated scene (default: 2)"
    add("--rate", type=float, default=2.0, help=rate)
    threshold = "least score of boxes in pictures; the JSON file has all boxes (default: 0.3)"
    add("--score-threshold", type=float, default=0.3, help=threshold)
    diagnostics = "also draw depth, foreground, attention and BEV features"
    add("--diagnostics", action="store_true", help=diagnostics)
    add("--opts", nargs="+", default=[], metavar="key=value", help="changes to the config")
    result = parser.parse_args(arguments)
    if not 0 < result.rate < float("inf"):
        parser.error(f"--rate must be positive, got {result.rate}")
    return result


def check_options(args: argparse.Namespace) -> None:
    """Raises a ValueError for an option that needs another one, which is not given."""
    if args.config_file and not args.weights:
        raise ValueError(f"--config-file {args.config_file} needs the --weights of its model")
    if args.weights and not (args.config_file or args.weights.startswith(ZOO)):
        raise ValueError(f"--weights {args.weights} needs the --config-file of its training")
    has_images = args.images or args.video
    if has_images and not args.rig:
        raise ValueError("--images and --video need the cameras: --rig FILE")
    for option in ("rig", "poses", "standing"):
        if getattr(args, option) and not has_images:
            raise ValueError(f"--{option} is for --images or --video, and neither is given")


def choose_model(args: argparse.Namespace) -> tuple[str, str]:
    """Returns the config file and the weights of the model.

    Raises:
        FileNotFoundError, ValueError: see :func:`.read_card`.
    """
    weights = args.weights or DETECTOR
    if args.config_file:
        return args.config_file, weights
    return config_path(weights.removeprefix(ZOO)), weights


def read_recording(args: argparse.Namespace, folder: Path) -> Recording:
    """Reads the recording of the command line, or generates one in an empty folder."""
    if not (args.images or args.video):
        return make_recording(folder, args.rate)
    rig, poses = read_rig(args.rig), read_poses(args)
    return Recording(rig, read_frames(args, rig, poses), poses)


def read_poses(args: argparse.Namespace) -> list | None:
    """Returns the poses ego2global of frames 0, 1, ..., or None without a file of poses."""
    if args.poses is None:
        return None
    try:
        poses = json.loads(Path(args.poses).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{args.poses}: not JSON ({error})") from error
    if not isinstance(poses, list):
        raise ValueError(f"{args.poses}: a list with one matrix per frame is needed")
    return poses


def pose_of(frame: RecordedFrame, poses: list | None, args: argparse.Namespace) -> Any:
    """Returns the pose of a frame by the frame's number; None if it is not known."""
    if poses is None:
        return np.eye(4) if args.standing else None
    if int(frame.name) >= len(poses):
        raise ValueError(
            f"{args.poses}: there is no pose for frame {frame.name}; give one for each frame, "
            f"{args.rate:g} per second"
        )
    return poses[int(frame.name)]


def read_frames(args: argparse.Namespace, rig: Rig, poses: list | None) -> Iterable[RecordedFrame]:
    """Returns the frames; images must be as many as poses."""
    if args.video:
        return frames_from_videos(args.video, rig, args.rate)
    frames = list(frames_from_images(args.images, rig, args.rate))
    if poses is not None and len(poses) != len(frames):
        raise ValueError(
            f"{args.poses}: {len(poses)} poses for {len(frames)} frames; give one for each frame"
        )
    return frames


def run(args: argparse.Namespace) -> None:
    """Reads or generates the recording, and detects its objects."""
    check_options(args)
    config, weights = choose_model(args)
    with TemporaryDirectory() as folder:
        detect(args, read_recording(args, Path(folder)), config, weights)


def detect(args: argparse.Namespace, recording: Recording, config: str, weights: str) -> None:
    """Detects the boxes of all frames and writes the results."""
    rig, poses = recording.rig, recording.poses
    predictor = Predictor(config, weights, overrides=args.opts)
    model = {"config": config, "weights": weights, "overrides": args.opts}
    detections = []
    number = -1
    lock = locked_folder(args.out, "choose another folder with --out")
    with lock, Results(Path(args.out), args.rate) as results:
        for frame in recording.frames:
            skipped, number = int(frame.name) > number + 1, int(frame.name)
            if skipped and predictor.frame_interval is None:
                # The model counts frames, and those before the gap are too old.
                predictor.reset()
            pixels, sample = take(predictor, frame, rig, pose_of(frame, poses, args))
            boxes = predictor.detect(sample)
            shown = boxes.at_least(args.score_threshold)
            truth = recording.truth_of(frame, predictor)
            picture = draw(predictor, frame, rig, pixels, sample, shown, truth)
            picture_path = results.add(frame.name, picture)
            if args.diagnostics:
                options = {"camera_names": rig.channels, "score_threshold": args.score_threshold}
                diagnostics = diagnose(predictor.model, sample, title=title_of(frame), **options)
                results.add_diagnostics(frame.name, diagnostics_sheet(diagnostics))
            detections.append((frame, boxes))
            print(f"{frame.name}: {len(shown)} objects, {picture_path}")
        path = results.folder / "detections.json"
        write_json(content(detections, model, rig, predictor.class_names), path)
    if poses is not None and len(poses) > number + 1:
        logging.warning(
            "%s: %d poses, but the videos have %d frames at %g per second",
            args.poses,
            len(poses),
            number + 1,
            args.rate,
        )
    print(path)


def take(
    predictor: Predictor, frame: RecordedFrame, rig: Rig, ego2global: Any
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Reads the images of a frame and makes its sample dict; errors name the frame.

    Returns:
        The rectified images of the cameras, and the sample dict.
    """
    try:
        pixels = read_images(frame.images, rig)
        # The images are rectified, so that the predictor must not rectify them again.
        rectified = replace(rig, lenses=())
        times = {"ego2global": ego2global, "seconds": frame.seconds}
        return pixels, predictor.sample(pixels, rectified, **times)
    except ValueError as error:
        raise ValueError(f"frame {frame.name}: {error}") from error


def draw(
    predictor: Predictor,
    frame: RecordedFrame,
    rig: Rig,
    pixels: Sequence[np.ndarray],
    sample: dict[str, Any],
    boxes: LabelledBoxes,
    truth: LabelledBoxes | None = None,
) -> np.ndarray:
    """Draws the (H, W, 3) uint8 RGB mosaic of a frame: camera images and BEV view with boxes."""
    cam2keyego = Cameras.from_samples([sample]).cam2keyego[0]
    views = [
        CameraView(name, pixels[i], cam2keyego[i], rig.intrinsics[i])
        for i, name in enumerate(rig.channels)
    ]
    return mosaic(
        views,
        class_names=predictor.class_names,
        area=BEVArea.of_grid(predictor.model.grid),
        truth=truth,
        predictions=boxes,
        title=title_of(frame),
    )


def title_of(frame: RecordedFrame) -> str:
    """Returns name and time of a frame as one line."""
    return f"frame {frame.name}   t = {frame.seconds:.2f} s"


def content(
    detections: Sequence[tuple[RecordedFrame, LabelledBoxes]],
    model: dict[str, Any],
    rig: Rig,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Returns the content of detections.json."""
    frames = [
        {"name": frame.name, "seconds": frame.seconds, "detections": boxes.records(class_names)}
        for frame, boxes in detections
    ]
    return {"frame": CONVENTIONS, "model": model, "rig": rig_content(rig), "frames": frames}


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    return exit_status(run, args)


if __name__ == "__main__":
    sys.exit(main())
