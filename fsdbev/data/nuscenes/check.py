"""Checks a preparation against the tables it was made from and the files it refers to. Changes
nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.index.records import Frame
from fsdbev.data.io.image_file import image_header
from fsdbev.data.labels.labeller import LabelStatistics, PointLabeller
from fsdbev.data.labels.point_labels import BACKGROUND, PixelPoints, label_path, read_label_header
from fsdbev.data.labels.sweeps import check_sweep_sizes, sweep_points
from fsdbev.data.parallel import Progress, map_rows, no_progress
from fsdbev.structures import CLASS_NAMES
from fsdbev.utils.atomic_write import leftovers

from .index_builder import split_scenes
from .output_folder import default_output, index_path, label_dir
from .rows import class_id, lidarseg_classes
from .tables import check_tables, has_lidarseg, read_records, table_folder, tables_fingerprint

_AGAIN = "run again without --check: what is missing, unfinished or outdated is made anew"
_FETCH = "unpack the archives they are in again, or correct --dataroot"
#: What can be wrong -> what to do about it.
REMEDIES = {
    "index": _AGAIN,
    "point labels": _AGAIN,
    "unfinished file": f"if no other run is under way, {_AGAIN}",
    "image": _FETCH,
    "sweep": f"{_FETCH}; they are needed to make point labels, not to train with them",
}
#: What a whole image file ends with, and how far from the end it may be: some cameras add to it.
_IMAGE_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_TAIL = 1 << 16


@dataclass(frozen=True)
class Finding:
    """Something wrong: a key of ``REMEDIES``, and what it is, with its file."""

    kind: str
    text: str


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        summaries: a line a split whose index could be read.
        findings: all there are.
    """

    summaries: Sequence[str]
    findings: Sequence[Finding]

    def lines(self, limit: int = 5) -> Iterator[str]:
        """The report in lines, with at most ``limit`` findings of a kind."""
        yield from self.summaries
        for kind, remedy in REMEDIES.items():
            texts = [finding.text for finding in self.findings if finding.kind == kind]
            if texts:
                yield f"{kind}: {len(texts)} found; {remedy}"
                yield from (f"  {text}" for text in texts[:limit])
                if len(texts) > limit:
                    yield f"  ... and {len(texts) - limit} more"


def check_nuscenes(
    *,
    dataroot: str | os.PathLike,
    version: str,
    splits: Sequence[str] | None = None,
    output: str | os.PathLike | None = None,
    workers: int = 0,
    full: bool = False,
    progress: Progress = no_progress,
) -> CheckReport:
    """Looks whether ``prepare_nuscenes`` with these arguments would have nothing to do, and whether
    what it made can be trained with.

    Covers: every index is there, whole, of this schema and convention, made from the very tables,
    and has their samples, objects and lidarseg categories. Every sample's point labels are there,
    whole, of the same tables and cameras, inside the images. Every image is there, has the index's
    size in its header, and its file has its format's end, or can be decoded. Every sweep is there,
    has whole points and as many lidarseg labels.

    Args:
        dataroot, version, splits, output: as given to ``prepare_nuscenes``.
        workers: processes; 0 works in this one.
        full: also decode every image and read every sweep and its labels.
        progress: shows how far it is.

    Raises:
        FileNotFoundError, ValueError: the tables or splits are missing or malformed.
    """
    check_tables(dataroot, version)
    output = Path(output) if output else default_output(dataroot, version)
    scenes = split_scenes(dataroot, version, splits)
    tables = _TableFacts.read(dataroot, version)
    unfinished = [*leftovers(output, "*"), *leftovers(label_dir(output), "*")]
    findings = [Finding("unfinished file", str(path)) for path in unfinished]
    summaries = []
    for split, names in scenes.items():
        try:
            index = FrameIndex(index_path(output, split))
        except (OSError, ValueError) as error:
            findings.append(Finding("index", str(error)))
            continue
        findings += [Finding("index", f"{index.path}: {f}") for f in tables.compare(index, names)]
        labels = label_dir(output) if index.num_annotations else None
        dataset = FrameDataset(split, index, Path(dataroot), labels)
        rows = map_rows(_RowCheck, (dataset, full), len(index), workers)
        reports = list(progress(rows, len(index), f"check, {split}"))
        findings += [finding for report in reports for finding in report.findings]
        summaries.append(_summary(dataset, reports))
    return CheckReport(summaries, findings)


@dataclass(frozen=True)
class _TableFacts:
    """What the tables say, read without the devkit: by sample token the name of its scene, and how
    many objects of the detection classes it has; class ids by lidarseg index."""

    source: str
    scene_names: dict[str, str]
    num_objects: Counter[str]
    lidarseg_classes: list[int]

    @classmethod
    def read(cls, dataroot: str | os.PathLike, version: str) -> _TableFacts:
        folder = table_folder(dataroot, version)
        categories = read_records(folder, "category")
        detected = {c["token"] for c in categories if class_id(c["name"]) >= 0}
        instances = read_records(folder, "instance")
        objects = {i["token"] for i in instances if i["category_token"] in detected}
        annotations = read_records(folder, "sample_annotation")
        names = {scene["token"]: scene["name"] for scene in read_records(folder, "scene")}
        return cls(
            source=tables_fingerprint(dataroot, version),
            scene_names={
                sample["token"]: names.get(sample["scene_token"], "")
                for sample in read_records(folder, "sample")
            },
            num_objects=Counter(
                a["sample_token"] for a in annotations if a["instance_token"] in objects
            ),
            lidarseg_classes=lidarseg_classes(categories) if has_lidarseg(folder) else [],
        )

    def compare(self, index: FrameIndex, scenes: set[str]) -> Iterator[str]:
        """What an index of these scenes has otherwise than the tables, in sentences."""
        source = index.info.get("source")
        if source != self.source:
            yield f"was made from other tables ({source}) than are there now ({self.source})"
        lidarseg = PointLabeller(index, "").lidarseg_classes
        if lidarseg != self.lidarseg_classes:
            yield f"its lidarseg categories {lidarseg} are not the tables' {self.lidarseg_classes}"
        expected = {token for token, name in self.scene_names.items() if name in scenes}
        found = Counter(
            {index[row].sample_token: len(index.annotations(row)) for row in range(len(index))}
        )
        for what, tokens in (
            ("lacks samples", expected - found.keys()),
            ("has samples of other scenes", found.keys() - expected),
            (
                "has another number of objects than the tables in samples",
                {t for t in expected & found.keys() if found[t] != self.num_objects[t]},
            ),
        ):
            if tokens:
                yield f"{what}: {len(tokens)} of {len(expected)}, {min(tokens)} for one"


@dataclass(frozen=True)
class _RowReport:
    """Of one sample; statistics and size of its point labels if they could be read."""

    findings: list[Finding]
    statistics: LabelStatistics | None = None
    label_bytes: int = 0


class _RowCheck:
    """Checks the files of a row."""

    def __init__(self, dataset: FrameDataset, full: bool) -> None:
        self.dataset = dataset
        self.full = full
        self.lidarseg_classes = PointLabeller(dataset.index, dataset.dataroot).lidarseg_classes

    def __call__(self, row: int) -> _RowReport:
        frame = self.dataset.index[row]
        findings = [Finding("image", text) for text in self._images(frame)]
        findings += [Finding("sweep", text) for text in self._sweep(row, frame)]
        if self.dataset.label_dir is None:
            return _RowReport(findings)
        path = label_path(self.dataset.label_dir, frame.sample_token)
        try:
            statistics = LabelStatistics.from_json(read_label_header(path)["statistics"])
            findings += [Finding("point labels", f"{path}: {f}") for f in self._labels(frame)]
            return _RowReport(findings, statistics, path.stat().st_size)
        except (OSError, KeyError, ValueError) as error:
            return _RowReport([*findings, Finding("point labels", str(error))])

    def _images(self, frame: Frame) -> Iterator[str]:
        for camera, name in enumerate(frame.image_paths):
            path = self.dataset.dataroot / name
            try:
                end = _end_of(path, tuple(frame.image_sizes[camera]))
                if self.full or end is None:
                    self.dataset.image(frame, camera)  # says what is wrong, if anything is
                if end is not None and end not in _tail(path):
                    yield f"{path}: its end is missing; fetch it again"
            except (OSError, ValueError) as error:
                yield str(error)

    def _sweep(self, row: int, frame: Frame) -> Iterator[str]:
        if frame.lidar is None:
            return
        try:
            if self.full:
                annotations = self.dataset.index.annotations(row)
                sweep_points(frame, annotations, self.dataset.dataroot, self.lidarseg_classes)
            else:
                check_sweep_sizes(frame.lidar, self.dataset.dataroot)
        except (OSError, ValueError) as error:
            yield str(error)

    def _labels(self, frame: Frame) -> Iterator[str]:
        cameras = self.dataset.point_labels(frame)
        for channel, size, camera in zip(frame.channels, frame.image_sizes, cameras, strict=True):
            points = PixelPoints.concatenate(camera.groups)
            inside = (points.u <= size[0]) & (points.v <= size[1])
            known = (points.class_ids >= BACKGROUND) & (points.class_ids < len(CLASS_NAMES))
            if not (inside & known).all():
                yield f"points of {channel} are outside the image or of no class; remove the file"


def _end_of(path: Path, size: tuple[int, int]) -> bytes | None:
    """Last bytes that an image must have; None if its header is not of this width and height, can't
    be read, or doesn't tell."""
    header = image_header(path)
    return _IMAGE_ENDS.get(header[0]) if header and header[1] == size else None


def _tail(path: Path) -> bytes:
    """Last bytes of a file, less than the half of it: an image in the header has an end too."""
    with open(path, "rb") as file:
        length = min(path.stat().st_size // 2, _TAIL)
        file.seek(-length, os.SEEK_END)
        return file.read()


def _summary(dataset: FrameDataset, reports: Sequence[_RowReport]) -> str:
    index = dataset.index
    text = (
        f"{dataset.name}: {len(index)} samples of {len(index.scene_names)} scenes, cameras "
        f"{', '.join(index[0].channels)}; {index.num_annotations} objects"
    )
    if dataset.label_dir is None:
        return f"{text}; no annotations, so no point labels"
    labelled = [report for report in reports if report.statistics is not None]
    points = sum(int(report.statistics.points.sum()) for report in labelled)
    size = sum(report.label_bytes for report in labelled)
    return f"{text}; point labels of {len(labelled)} samples, {points} points, {size / 1e6:.1f} MB"
