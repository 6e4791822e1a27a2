#!/usr/bin/env python
"""Exports the model of a config to files that run without this project, and checks their outputs.

    python tools/export_model.py --config-file configs/fsdbev_r50_cbgs.py \\
        --weights fsdbev_r50.safetensors --format both --output deploy/r50 [key=value ...]

aoti  model.pt2, a package compiled by AOTInductor for --device, and the library of custom operators
      that it needs. It takes camera matrices, which may change between calls, and returns
      detections.
onnx  model.onnx in standard operators, made on the CPU. It takes the BEV cells of all frustum
      points and returns candidates; NMS is left to the caller.

metadata.json describes inputs and outputs; docs/deployment.md shows how to run both files. The
numbers of samples and cameras are fixed in the files.

The detections of each file in a batch of samples are compared with those of the model. If they
differ, nothing is written. The samples are the first of the config's test data with
--test-samples, otherwise fake samples of --num-cameras cameras.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from command_line import camera_count, exit_status, tool_parser
from omegaconf import DictConfig

from fsdbev.checkpoint import ModelSettings, load_weights
from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.export import FORMATS, TOLERANCE, export_model
from fsdbev.export.comparison import BOX_FACTOR
from fsdbev.inference.model_builder import build_model


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--config-file", required=True, help="LazyConfig file with a model")
    add("--weights", help="checkpoint, same as train.init_checkpoint=FILE")
    add("--format", choices=(*FORMATS, "both"), default="both", help="formats (default: both)")
    add("--output", required=True, type=Path, metavar="DIR", help="new or empty folder")
    add("--batch-size", type=int, default=1, metavar="B", help="samples per call (default: 1)")
    cameras = "cameras of the fake samples (default: those of dataloader.cameras, or 6)"
    add("--num-cameras", type=int, metavar="N", help=cameras)
    add("--test-samples", action="store_true", help="compare on test data of the config")
    add("--device", help="same as train.device=DEVICE")
    cells = "aoti takes BEV cells too, for a rig that does not change"
    add("--cells", action="store_true", help=cells)
    stream = "take images of the key frame only, and image features of earlier frames"
    add("--stream", action="store_true", help=stream)
    tolerance = (
        f"largest difference of scores; values of boxes may differ by {BOX_FACTOR:g} times as much "
        "(default: %(default)s)"
    )
    add("--tolerance", type=float, default=TOLERANCE, metavar="X", help=tolerance)
    add("overrides", nargs="*", metavar="key=value", help="changes to the config")
    args = parser.parse_intermixed_args(arguments)
    if args.test_samples and args.num_cameras is not None:
        parser.error("--num-cameras is for fake samples; --test-samples have their own cameras")
    return args


def export_config(args: argparse.Namespace) -> DictConfig:
    """Loads the config and applies --weights and --device."""
    cfg = load_config(args.config_file, args.overrides)
    if args.weights:
        cfg.train.init_checkpoint = args.weights
    if args.device:
        cfg.train.device = args.device
    return cfg


def load_samples(args: argparse.Namespace, cfg: DictConfig) -> list[dict]:
    """Returns as many samples as a call of the exported graph takes.

    Raises:
        ValueError: a number is less than 1, or the test data has too few samples.
    """
    count, num_cameras = args.batch_size, camera_count(cfg, args.num_cameras)
    if count < 1 or num_cameras < 1:
        raise ValueError(
            f"--batch-size and --num-cameras must be at least 1, got {count} and {num_cameras}"
        )
    if not args.test_samples:
        return fake_samples(
            count,
            num_frames=cfg.model.num_frames,
            num_cameras=num_cameras,
            image_size=tuple(cfg.dataloader.image_size),
        )
    # One sample at a time and no workers, so that no sample is loaded in vain.
    loader = cfg.dataloader.test
    loader.batch_size, loader.num_workers = 1, 0
    samples = [sample for batch in islice(instantiate(loader), count) for sample in batch]
    if len(samples) < count:
        raise ValueError(f"--batch-size is {count}, but the test data has {len(samples)} samples")
    return samples


def run(args: argparse.Namespace) -> None:
    """Exports the model and prints a summary of each file."""
    cfg = export_config(args)
    samples = load_samples(args, cfg)
    model = build_model(cfg)
    weights = cfg.train.init_checkpoint
    if weights:
        load_weights(model, weights, strict=True, settings=ModelSettings.of(model, cfg))
    else:
        print("warning: no --weights, an untrained model is exported")
    files = export_model(
        model,
        samples,
        args.output,
        formats=[FORMATS[name] for name in FORMATS if args.format in (name, "both")],
        stream=args.stream,
        cells=args.cells,
        tolerance=args.tolerance,
        about={
            "config_file": args.config_file,
            "overrides": args.overrides,
            "weights": weights,
            "compared_on": "test samples" if args.test_samples else "fake samples",
        },
    )
    for file in files:
        d = file.differences
        print(
            f"{args.output / file.name}: {file.num_bytes / 1e6:.1f} MB, written in "
            f"{file.seconds:.0f} s; of {d.num_detections} detections of file and model, "
            f"{d.num_unmatched} have no counterpart; largest difference of scores {d.score:.2g}, "
            f"of boxes {d.box:.2g}" + (f", of features {d.features:.2g}" if args.stream else "")
        )
    print(f"tolerance: scores {args.tolerance:g}, boxes {BOX_FACTOR * args.tolerance:g}")


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_status(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
