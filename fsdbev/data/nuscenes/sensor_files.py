"""Presence of the files that the samples of a scene need, and scenes that are left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fsdbev.data.index.frame_index import FrameIndex

#: Header field of an index: JSON of scene name -> its first missing file.
SKIPPED_FIELD = "skipped_scenes"
_LEAVE_OUT = (
    "to leave out scenes with missing files, use --skip-incomplete or choose scenes with --scenes"
)


def missing_files(
    files: Iterable[tuple[str, str]], dataroot: str | os.PathLike
) -> dict[str, list[str]]:
    """Finds files that do not exist.

    Args:
        files: pairs of a scene name and a path relative to ``dataroot``.
        dataroot: nuScenes folder.

    Returns:
        Scene name -> its missing files in the given order; without scenes that have all files.
    """
    found: dict[str, set[str]] = {}
    missing: dict[str, list[str]] = {}
    for scene, path in files:
        folder, name = os.path.split(path)
        if folder not in found:
            # One listing instead of one stat per file: trainval has 34149 files per camera.
            full = Path(dataroot, folder)
            found[folder] = set(os.listdir(full)) if full.is_dir() else set()
        if name not in found[folder]:
            missing.setdefault(scene, []).append(path)
    return missing


def files_of_index(index: FrameIndex) -> Iterator[tuple[str, str]]:
    """Yields (scene name, path) of the files that training and point labels read; without
    annotations these are the images only."""
    for frame in index:
        paths = [*frame.image_paths]
        if frame.lidar is not None and index.num_annotations:
            paths += [frame.lidar.path, *filter(None, [frame.lidar.lidarseg_path])]
        yield from ((frame.scene_name, path) for path in paths)


def check_complete(
    missing: Mapping[str, Sequence[str]], split: str, dataroot: str | os.PathLike
) -> None:
    """Checks that no file is missing.

    Args:
        missing: see :func:`missing_files`.
        split, dataroot: for the message.

    Raises:
        FileNotFoundError: names the first file and its scene.
    """
    if not missing:
        return
    scene, paths = next(iter(missing.items()))
    lidarseg = "lidarseg" in paths[0]
    without = ", or remove lidarseg.json to label points inside boxes as foreground"
    count = sum(map(len, missing.values()))
    raise of_scene(
        f"{Path(dataroot, paths[0])}: no such file (missing files of {split}: {count}, incomplete "
        f"scenes: {len(missing)}); unpack the archive it is in{without * lidarseg}",
        scene,
    )


def of_scene(finding: str, scene: str) -> FileNotFoundError:
    """Returns the error of a missing file, which names its scene and how to leave it out."""
    return FileNotFoundError(f"{finding}; the file belongs to {scene}: {_LEAVE_OUT}")


def skipped_scenes(index: FrameIndex) -> dict[str, str]:
    """Returns the scenes of a split that ``--skip-incomplete`` left out of its index.

    Returns:
        Scene name -> its first missing file, relative to the data root.

    Raises:
        ValueError: the header of the index has malformed scenes.
    """
    text = index.info.get(SKIPPED_FIELD, "{}")
    try:
        skipped = json.loads(text)
        valid = all(isinstance(path, str) for path in skipped.values())
    except (AttributeError, RecursionError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"{index.path}: {SKIPPED_FIELD} must map scenes to files, got {text!r}; remove the "
            "file and run tools/prepare_nuscenes.py again"
        )
    return skipped
