"""Splits of a version: nuScenes' own, those of ``splits.json``, and scenes that the user chooses.

Importing this module imports the devkit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from nuscenes.utils.splits import create_splits_scenes

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.structures import OFFICIAL_SPLITS, TRAIN_HALVES, check_split_name

from .sensor_files import skipped_scenes
from .tables import REMEDY, TableError, read_json, read_records, table_folder


def choose_splits(
    dataroot: str | os.PathLike,
    version: str,
    splits: Sequence[str] | None,
    scenes: Sequence[str] | None,
    split_name: str | None,
    prepared: Mapping[str, FrameIndex],
) -> dict[str, set[str]]:
    """Returns the scenes of each split of a preparation, see ``prepare_nuscenes`` for the
    arguments.

    Raises:
        ValueError: see :func:`split_scenes`; the arguments exclude each other; or see
            :func:`_named_split`.
    """
    if scenes is None and split_name is None:
        return split_scenes(dataroot, version, splits, prepared)
    if splits is not None:
        raise ValueError("--splits can't be combined with --scenes and --split-name")
    return _named_split(table_folder(dataroot, version), scenes or (), split_name)


def split_scenes(
    dataroot: str | os.PathLike,
    version: str,
    splits: Sequence[str] | None = None,
    prepared: Mapping[str, FrameIndex] | None = None,
) -> dict[str, set[str]]:
    """Returns the scenes of each split that are present in this version.

    Reads the scene table and ``splits.json`` only.

    Args:
        dataroot, version: nuScenes folder, and the folder of the tables in it.
        splits: names of splits; None means all with a scene in this version, official splits
            first.
        prepared: indexes of the output folder, of which those with other names than the official
            splits and those of ``splits.json`` count as splits too (``--scenes``).

    Returns:
        Split name -> scene names.

    Raises:
        TableError: ``scene.json`` or ``splits.json`` is malformed.
        ValueError: a split is unknown or has no scene in this version.
    """
    folder = table_folder(dataroot, version)
    present = {scene["name"] for scene in read_records(folder, "scene")}
    known = known_splits(folder)
    for name, index in (prepared or {}).items():
        known.setdefault(name, {*index.scene_names, *skipped_scenes(index)})
    if splits is None:
        # Without the devkit's halves of train: their scenes are in train already.
        official = [
            name
            for name, ending in OFFICIAL_SPLITS.items()
            if version.endswith(ending) and name not in TRAIN_HALVES
        ]
        candidates = [*official, *(name for name in known if name not in OFFICIAL_SPLITS)]
        splits = [name for name in candidates if present & known[name]]
        if not splits:
            raise ValueError(
                f"no known split has a scene of {folder}; choose a version with --version, scenes "
                f"with --scenes, or list the scenes of a split in {folder / 'splits.json'}"
            )
    unknown = [name for name in splits if name not in known]
    if unknown:
        raise ValueError(
            f"{version} has no split {unknown[0]!r}, only {', '.join(known)}; choose the scenes of "
            f"another split with --scenes, or list them in {folder / 'splits.json'}"
        )
    found = {name: present & known[name] for name in splits}
    for name, scenes in found.items():
        if not scenes:
            raise ValueError(f"{folder} has no scene of split {name!r}; change --splits")
    return found


def _named_split(folder: Path, scenes: Sequence[str], name: str | None) -> dict[str, set[str]]:
    """Returns the split of the scenes that the user chooses.

    Raises:
        TableError: ``scene.json`` or ``splits.json`` is malformed.
        ValueError: there are no scenes, a scene is unknown, or the name is missing, that of an
            official split or of other scenes in ``splits.json``, or no plain file name.
    """
    if not scenes or not name:
        raise ValueError(
            "--scenes (at least one) and --split-name, the name of their index, need each other, "
            f"got {list(scenes)} and {name!r}"
        )
    check_split_name(name, "--split-name")
    present = {scene["name"] for scene in read_records(folder, "scene")}
    for scene in scenes:
        if scene not in present:
            nearest = ", ".join(get_close_matches(scene, present, n=1, cutoff=0))
            raise ValueError(
                f"{folder} has no scene {scene!r}; the nearest name is {nearest!r} (--scenes takes "
                "names, or one file with a name per line)"
            )
    if set(_custom_splits(folder).get(name, scenes)) != set(scenes):
        raise ValueError(
            f"--split-name {name}: {folder / 'splits.json'} has other scenes for this name; "
            "choose another name, or the split with --splits"
        )
    return {name: set(scenes)}


def known_splits(folder: Path) -> dict[str, set[str]]:
    """Returns the scene names of the official splits and of those in ``splits.json``.

    Raises:
        TableError: ``splits.json`` is malformed.
    """
    splits = {**_custom_splits(folder), **create_splits_scenes()}
    return {name: set(names) for name, names in splits.items()}


def _custom_splits(folder: Path) -> dict[str, list[str]]:
    """Returns the content of ``splits.json``; empty without that file."""
    path = folder / "splits.json"
    custom = read_json(path) if path.is_file() else {}
    if not isinstance(custom, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in custom.values()
    ):
        raise TableError(f"{path}: must map each split to a list of scene names; {REMEDY}")
    for name in custom:
        try:
            check_split_name(name, str(path))
        except ValueError as error:
            raise TableError(str(error)) from error
    return custom
