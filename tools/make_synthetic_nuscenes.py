#!/usr/bin/env python
"""Writes a small synthetic data set in nuScenes format (version v1.0-synth).

    python tools/make_synthetic_nuscenes.py --out data/synth

The data set shows street scenes with all ten classes, recorded by six cameras and a LiDAR with
lidarseg labels. It has annotations and the splits synth_train and synth_val. Equal options produce
identical files for any number of workers. The folder appears when the data set is complete; an
existing complete data set is kept.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
from collections.abc import Sequence

from command_line import cpu_count, tool_parser

from fsdbev.data.synthetic import FORMATS, SyntheticOptions, generate
from fsdbev.data.synthetic.traffic import TRAFFIC
from fsdbev.data.synthetic.world_kind import WORLD_KINDS
from fsdbev.utils.plain_file import check_file_names


def _image_size(text: str) -> tuple[int, int]:
    """Parses WIDTHxHEIGHT."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 480x270, got {text!r}")
    return int(match[1]), int(match[2])


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    default, shown = SyntheticOptions(), "(default: %(default)s)"
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--out", required=True, help="folder of the data set, the data root of nuScenes")
    add("--scenes-train", type=int, default=default.scenes_train, help=f"training scenes {shown}")
    add("--scenes-val", type=int, default=default.scenes_val, help=f"validation scenes {shown}")
    add("--frames", type=int, default=default.frames, help=f"key frames per scene {shown}")
    rate = f"key frames per second {shown}"
    add("--rate", type=float, default=default.rate, metavar="HZ", help=rate)
    size = f"image size (default: {'x'.join(map(str, default.image_size))})"
    add("--image-size", type=_image_size, default=default.image_size, metavar="WxH", help=size)
    fisheye = "cameras with a fisheye lens (default: none)"
    add("--fisheye", nargs="+", default=default.fisheye, metavar="CAM", help=fisheye)
    world = f"street: near objects with many points; nuscenes: nuScenes' statistics {shown}"
    add("--world", choices=WORLD_KINDS, default=default.world, help=world)
    add("--density", type=float, default=default.density, help=f"factor on objects {shown}")
    azimuths = f"azimuth steps of a LiDAR turn {shown}"
    add("--lidar-azimuths", type=int, default=default.lidar_azimuths, help=azimuths)
    form = "nuimages: images with 2D boxes, classes and masks, without LiDAR (default: %(default)s)"
    add("--format", choices=FORMATS, default=default.format, help=form)
    traffic = f"right: right-hand traffic; both: any direction on either side {shown}"
    add("--traffic", choices=TRAFFIC, default=default.traffic, help=traffic)
    add("--seed", type=int, default=default.seed, help=f"random seed {shown}")
    add("--workers", type=int, default=cpu_count(), help="processes (default: number of CPUs)")
    add("--overwrite", action="store_true", help="replace an existing synthetic data set")
    return parser.parse_args(arguments)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = vars(parse_arguments())
    out, workers, overwrite = (args.pop(name) for name in ("out", "workers", "overwrite"))
    begin = time.monotonic()
    try:
        check_file_names()
        written = generate(out, SyntheticOptions(**args), workers=workers, overwrite=overwrite)
    except ValueError as error:
        logging.error("error: %s", error)
        return 2
    if written:
        logging.info("wrote %s in %.0f s", out, time.monotonic() - begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
