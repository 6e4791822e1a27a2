#!/usr/bin/env python
"""Compares data sets in nuScenes format with published statistics of nuScenes.

    python tools/dataset_statistics.py --data data/synthetic v1.0-synth [--data ROOT VERSION ...]

It prints Markdown tables of the annotations of the ten detection classes: objects per sample, their
distance, visibility, size, and LiDAR and radar points. "Weighted" means are those that a data set
would have with nuScenes' shares of the classes. It needs the tables of the version only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from command_line import exit_status, tool_parser

from fsdbev.data.nuscenes.tables import NuScenesTables, check_tables
from fsdbev.structures import NUSCENES_CLASSES

#: Class -> number of annotations and mean height (m) in v1.0-trainval, which has 34149 samples
#: (printed by ``list_categories`` of nuScenes' devkit).
PUBLISHED = {
    "car": (493322, 1.73),
    "truck": (88519, 2.84),
    "construction_vehicle": (14671, 3.19),
    "bus": (16321, 3.47),
    "trailer": (24860, 3.87),
    "barrier": (152087, 0.98),
    "motorcycle": (12617, 1.47),
    "bicycle": (11859, 1.28),
    "pedestrian": (220194, 1.77),
    "traffic_cone": (97959, 1.07),
}
_SAMPLES = 34149
_TOTAL = sum(count for count, _ in PUBLISHED.values())
#: Mean LiDAR and radar points, and the share of annotations with neither, in v1.0-mini (issues 219
#: and 313 of nuScenes' devkit; over all categories).
_POINTS, _RADAR_POINTS, _EMPTY = 58.8, 0.85, 0.187
#: Distances of the second table, metres, and the fewest objects for which it has a median.
_BANDS, _FEWEST = ((10, 20), (20, 30), (30, 40), (40, 50)), 3
#: Focal length of nuScenes' front camera at 1600 x 900, pixels.
_FOCAL = 1266.0


class Objects(NamedTuple):
    """N annotations of the detection classes.

    Attributes:
        samples: number of annotated samples.
        name: (N,) class names.
        distance: (N,) distance from the ego vehicle on the ground, metres.
        height: (N,) metres.
        lidar, radar: (N,) numbers of points.
        visibility: (N,) level 1 to 4.
    """

    samples: int
    name: np.ndarray
    distance: np.ndarray
    height: np.ndarray
    lidar: np.ndarray
    radar: np.ndarray
    visibility: np.ndarray


def read_objects(dataroot: str, version: str) -> Objects:
    """Reads the annotations of all samples.

    Raises:
        FileNotFoundError: a table is missing.
        ValueError: there are no annotations of the detection classes.
    """
    check_tables(dataroot, version)
    nusc = NuScenesTables(dataroot, version)
    rows, samples = [], set()
    for record in nusc.sample_annotation:
        class_id = NUSCENES_CLASSES.id_of_category(record["category_name"])
        if class_id < 0:
            continue
        samples.add(record["sample_token"])
        data = nusc.get("sample", record["sample_token"])["data"]["LIDAR_TOP"]
        pose = nusc.get("ego_pose", nusc.get("sample_data", data)["ego_pose_token"])
        x, y = np.subtract(record["translation"], pose["translation"])[:2]
        points = (record["num_lidar_pts"], record["num_radar_pts"])
        visibility = int(record["visibility_token"] or 0)
        name = NUSCENES_CLASSES.names[class_id]
        rows.append((name, np.hypot(x, y), record["size"][2], *points, visibility))
    if not rows:
        raise ValueError(f"{dataroot}/{version} has no annotations of the detection classes")
    return Objects(len(samples), *map(np.array, zip(*rows, strict=True)))


def weighted(objects: Objects, values: np.ndarray) -> float:
    """Returns the mean of (N,) values with nuScenes' shares of the classes that there are."""
    found = {name: values[objects.name == name] for name in PUBLISHED}
    present = [name for name, own in found.items() if len(own)]
    means = [found[name].mean() for name in present]
    return float(np.average(means, weights=[PUBLISHED[name][0] for name in present]))


def quartiles(values: np.ndarray) -> str:
    return " / ".join(f"{value:.0f}" for value in np.quantile(values, (0.25, 0.5, 0.75)))


#: Row of the first table -> published value, and the value of a data set.
OVERALL: dict[str, tuple[str, Callable[[Objects], str]]] = {
    "objects per sample": (
        f"{_TOTAL / _SAMPLES:.1f}",
        lambda o: f"{len(o.name) / o.samples:.1f}",
    ),
    "LiDAR points of an object, weighted mean": (
        f"{_POINTS} (mini)",
        lambda o: f"{weighted(o, o.lidar):.1f}",
    ),
    "radar points of an object, weighted mean": (
        f"{_RADAR_POINTS} (mini)",
        lambda o: f"{weighted(o, o.radar):.2f}",
    ),
    "objects with neither LiDAR nor radar points": (
        f"{_EMPTY:.1%} (mini)",
        lambda o: f"{(o.lidar + o.radar == 0).mean():.1%}",
    ),
    "the same, weighted": ("-", lambda o: f"{weighted(o, o.lidar + o.radar == 0):.1%}"),
    "objects without LiDAR point": ("-", lambda o: f"{(o.lidar == 0).mean():.1%}"),
    "visibility 1 / 2 / 3 / 4": (
        "-",
        lambda o: " / ".join(f"{(o.visibility == level).mean():.0%}" for level in (1, 2, 3, 4)),
    ),
    "distance, quartiles (m)": ("-", lambda o: quartiles(o.distance)),
}


def overall_table(names: Sequence[str], data: Sequence[Objects]) -> list[str]:
    """Returns the lines of the table over all objects, with a column per data set."""
    lines = [f"| | nuScenes, published | {' | '.join(names)} |", "|---" * (len(data) + 2) + "|"]
    for name, (published, value) in OVERALL.items():
        lines.append(f"| {name} | {published} | {' | '.join(map(value, data))} |")
    return lines


def class_table(objects: Objects) -> list[str]:
    """Returns the lines of the table by class: share, height, points by distance, pixels."""
    bands = " | ".join(f"{low} to {high} m" for low, high in _BANDS)
    lines = [
        f"| class | share | height (m), published | height (m) | {bands} | height (px) |",
        "|---" * (5 + len(_BANDS)) + "|",
    ]
    for name, (_, published) in PUBLISHED.items():
        chosen = objects.name == name
        if not chosen.any():
            continue
        distance, points = objects.distance[chosen], objects.lidar[chosen]
        height = objects.height[chosen]
        medians = []
        for low, high in _BANDS:
            within = points[(distance >= low) & (distance < high)]
            medians.append(f"{np.median(within):.0f}" if len(within) >= _FEWEST else "-")
        pixels = np.median(_FOCAL * height / distance)
        lines.append(
            f"| {name} | {chosen.mean():.0%} | {published} | {height.mean():.2f} | "
            f"{' | '.join(medians)} | {pixels:.0f} |"
        )
    return lines


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    data = "folder and version of a data set; may be repeated"
    names = ("ROOT", "VERSION")
    parser.add_argument("--data", nargs=2, action="append", required=True, metavar=names, help=data)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> None:
    data = [read_objects(*place) for place in args.data]
    names = [
        f"{Path(root).name}, {each.samples} sample{'s' * (each.samples > 1)}"
        for (root, _), each in zip(args.data, data, strict=True)
    ]
    print("\n".join(overall_table(names, data)))
    for name, objects in zip(names, data, strict=True):
        print(f"\n{name}: median LiDAR points by distance, median height in pixels at 1600x900\n")
        print("\n".join(class_table(objects)))


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_status(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
