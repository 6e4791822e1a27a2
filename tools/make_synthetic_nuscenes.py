#!/usr/bin/env python
"""Writes a small synthetic data set in nuScenes' format (version ``v1.0-synth``).

    python tools/make_synthetic_nuscenes.py --out data/synth

A street world with all ten classes, six cameras, a lidar with lidarseg labels and annotations, in
the splits ``synth_train`` and ``synth_val``. The same options give the same files, byte for byte,
whatever ``--workers`` says. The folder appears when the set is complete; run again, it is kept.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
from collections.abc import Sequence

from command_line import cpu_count, tool_parser

from fsdbev.data.synthetic import SyntheticOptions, generate


def _image_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 480x270, got {text!r}")
    return int(match[1]), int(match[2])


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    default = SyntheticOptions()
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--out", required=True, help="folder of the data set (nuScenes' data root)")
    add("--scenes-train", type=int, default=default.scenes_train, help="default: %(default)s")
    add("--scenes-val", type=int, default=default.scenes_val, help="default: %(default)s")
    add("--frames", type=int, default=default.frames, help="key frames a scene: %(default)s")
    size = "x".join(map(str, default.image_size))
    add("--image-size", type=_image_size, default=default.image_size, help=f"default: {size}")
    add("--density", type=float, default=default.density, help="factor on objects: %(default)s")
    add("--lidar-azimuths", type=int, default=default.lidar_azimuths, help="default: %(default)s")
    add("--seed", type=int, default=default.seed, help="default: %(default)s")
    add(
        "--workers", type=int, default=cpu_count(), help="processes, default: the CPUs, %(default)s"
    )
    add("--overwrite", action="store_true", help="replace a synthetic set that is already there")
    return parser.parse_args(arguments)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = vars(parse_arguments())
    out, workers, overwrite = (args.pop(name) for name in ("out", "workers", "overwrite"))
    begin = time.monotonic()
    try:
        written = generate(out, SyntheticOptions(**args), workers=workers, overwrite=overwrite)
    except ValueError as error:
        logging.error("error: %s", error)
        return 2
    if written:
        logging.info("wrote %s in %.0f s", out, time.monotonic() - begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
