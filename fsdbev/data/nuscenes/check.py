"""Read-only check of a prepared data set against its tables, images, sweeps and point labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.index.records import Frame
from fsdbev.data.labels.labeller import LabelStatistics, PointLabeller
from fsdbev.data.labels.point_labels import PixelPoints, label_path, read_label_header
from fsdbev.data.labels.sweeps import check_sweep_sizes, sweep_points
from fsdbev.data.parallel import Progress, map_rows, no_progress
from fsdbev.structures import NUSCENES_CLASSES, ClassSet
from fsdbev.utils.atomic_write import unfinished_paths

from .output_folder import default_output, index_path, label_dir, prepared_indexes
from .rows import lidarseg_classes
from .sensor_files import missing_files, skipped_scenes
from .splits import choose_splits
from .tables import (
    check_tables,
    has_lidarseg,
    read_records,
    source_of,
    table_folder,
    tables_fingerprint,
)

_REBUILD = "run again without --check to rebuild missing, unfinished and outdated files"
_UNPACK = (
    "unpack their archives again, correct --dataroot, or leave out scenes with missing files by a "
    "run with --skip-incomplete"
)
#: Kind of finding -> remedy, in the order of the report.
REMEDIES = {
    "classes": "all files of an output folder have the same classes",
    "index": _REBUILD,
    "point labels": _REBUILD,
    "unfinished file": f"if no other run is active, {_REBUILD}",
    "image": _UNPACK,
    "sweep": f"{_UNPACK}; only the preparation of point labels reads sweeps, training does not",
}


@dataclass(frozen=True)
class Finding:
    """A defect: its kind, which is a key of ``REMEDIES``, and a text that names the file."""

    kind: str
    text: str


@dataclass(frozen=True)
class CheckReport:
    """Result of a check.

    Attributes:
        summaries: one line for each split with a readable index.
        findings: all defects; empty for a correct preparation.
    """

    summaries: Sequence[str]
    findings: Sequence[Finding]

    def lines(self, limit: int = 5) -> Iterator[str]:
        """Yields the lines of the report, with at most ``limit`` findings of each kind."""
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
    scenes: Sequence[str] | None = None,
    split_name: str | None = None,
    output: str | os.PathLike | None = None,
    classes: ClassSet = NUSCENES_CLASSES,
    balance: float | None = None,
    workers: int = 0,
    full: bool = False,
    progress: Progress = no_progress,
) -> CheckReport:
    """Checks whether the output of ``prepare_nuscenes`` is complete, current and fit for training.

    Writes nothing. The following is checked:

    - Indexes: present, complete, of this schema and coordinate convention, made for these classes
      from the current tables, with the tables' samples, numbers of objects and lidarseg categories.
      Scenes that the preparation left out because a file was missing still lack it.
    - Point labels of every sample: present, complete, made from the same tables and cameras,
      with all points inside the images.
    - Images: present, of the size and with the checksum given in the index.
    - Sweeps: present, a whole number of points, and one lidarseg label for each point.

    Args:
        dataroot, version, splits, scenes, split_name, output, classes, balance: as passed to
            ``prepare_nuscenes``.
        workers: number of processes; 0 checks in the calling process.
        full: also decode every image and read every sweep with its lidarseg labels.
        progress: wraps the loop over a split's samples and shows its progress.

    Returns:
        Summaries and findings; defects of indexes, labels and sensor files are findings.

    Raises:
        FileNotFoundError, ValueError: tables or splits are missing or malformed.
    """
    check_tables(dataroot, version)
    output = Path(output) if output else default_output(dataroot, version)
    found = prepared_indexes(output)
    chosen = choose_splits(dataroot, version, splits, scenes, split_name, found)
    if splits is None and scenes is None:
        # The scenes of an earlier --split-name are known from its index only.
        unreadable = {path.stem for path in output.glob("*.arrow")} - found.keys()
        chosen |= dict.fromkeys(sorted(unreadable - chosen.keys()), set())
    expected = _ExpectedContent.read(dataroot, version, classes, balance)
    unfinished = [*unfinished_paths(output, "*"), *unfinished_paths(label_dir(output), "*")]
    findings = [Finding("unfinished file", str(path)) for path in unfinished]
    summaries = []
    for split, names in chosen.items():
        try:
            index = found[split] if split in found else FrameIndex(index_path(output, split))
            skipped = skipped_scenes(index)
            findings += expected.compare(index, names, skipped, dataroot)
        except (OSError, ValueError) as error:
            # One report covers all splits: an unreadable index does not end the check.
            findings.append(Finding("index", str(error)))
            continue
        # Versions without annotations, such as v1.0-test, are prepared without point labels.
        labels = label_dir(output) if index.num_annotations else None
        dataset = FrameDataset(split, index, Path(dataroot), labels)
        rows = map_rows(_RowCheck, (dataset, full), len(index), workers)
        reports = list(progress(rows, len(index), f"check, {split}"))
        findings += [finding for report in reports for finding in report.findings]
        summaries.append(_summary(dataset, skipped, reports))
    return CheckReport(summaries, findings)


@dataclass(frozen=True)
class _ExpectedContent:
    """Index content that follows from the tables and the options of the preparation.

    Attributes:
        classes: the classes.
        source: see :func:`source_of`.
        scene_names: sample token -> name of its scene.
        num_objects: sample token -> number of annotations of the classes.
        lidarseg_classes: lidarseg index -> class id; empty without lidarseg.
    """

    classes: ClassSet
    source: str
    scene_names: dict[str, str]
    num_objects: Counter[str]
    lidarseg_classes: list[int]

    @classmethod
    def read(
        cls,
        dataroot: str | os.PathLike,
        version: str,
        classes: ClassSet,
        balance: float | None,
    ) -> _ExpectedContent:
        """Reads the JSON tables directly: the devkit would take a minute for nuScenes trainval."""
        folder = table_folder(dataroot, version)
        categories = read_records(folder, "category")
        detected = {c["token"] for c in categories if classes.id_of_category(c["name"]) >= 0}
        instances = read_records(folder, "instance")
        objects = {i["token"] for i in instances if i["category_token"] in detected}
        annotations = read_records(folder, "sample_annotation")
        names = {scene["token"]: scene["name"] for scene in read_records(folder, "scene")}
        return cls(
            classes=classes,
            source=source_of(tables_fingerprint(dataroot, version), balance),
            scene_names={
                sample["token"]: names.get(sample["scene_token"], "")
                for sample in read_records(folder, "sample")
            },
            num_objects=Counter(
                a["sample_token"] for a in annotations if a["instance_token"] in objects
            ),
            lidarseg_classes=lidarseg_classes(categories, classes) if has_lidarseg(folder) else [],
        )

    def compare(
        self,
        index: FrameIndex,
        scenes: set[str],
        skipped: Mapping[str, str],
        dataroot: str | os.PathLike,
    ) -> Iterator[Finding]:
        """Yields the differences between an index and the expected content.

        Args:
            index: the index.
            scenes: scenes of its split.
            skipped: see :func:`skipped_scenes`.
            dataroot: nuScenes folder.

        Raises:
            ValueError: the header of the index is malformed.
        """
        try:
            self.classes.check_labels(
                index.classes,
                own="this check (--classes)",
                others=index.path,
                remedy="pass the classes of the preparation, or another folder with --output",
            )
        except ValueError as error:
            yield Finding("classes", str(error))
            return
        differences = [
            *self._header_differences(index),
            *_now_complete(skipped, dataroot),
            *self._sample_differences(index, scenes - skipped.keys()),
        ]
        yield from (Finding("index", f"{index.path}: {text}") for text in differences)

    def _header_differences(self, index: FrameIndex) -> Iterator[str]:
        if index.classes != self.classes:
            yield "its classes have other groups, attributes or ranges than --classes"
        source = index.info.get("source")
        if source != self.source:
            yield f"was made from other tables ({source}) than the current ones ({self.source})"
        lidarseg = PointLabeller(index, "").lidarseg_classes
        if lidarseg != self.lidarseg_classes:
            yield f"its lidarseg categories {lidarseg} differ from {self.lidarseg_classes}"

    def _sample_differences(self, index: FrameIndex, scenes: set[str]) -> Iterator[str]:
        expected = {token for token, name in self.scene_names.items() if name in scenes}
        found = {index[row].sample_token: len(index.annotations(row)) for row in range(len(index))}
        for difference, tokens in (
            ("lacks samples", expected - found.keys()),
            ("has samples of other scenes", found.keys() - expected),
            (
                "has a different number of objects than the tables in samples",
                {t for t in expected & found.keys() if found[t] != self.num_objects[t]},
            ),
        ):
            if tokens:
                yield f"{difference}: {len(tokens)} of {len(expected)}, for example {min(tokens)}"


def _now_complete(skipped: Mapping[str, str], dataroot: str | os.PathLike) -> Iterator[str]:
    for scene in sorted(skipped.keys() - missing_files(skipped.items(), dataroot).keys()):
        yield f"leaves out {scene}, but the file that was missing exists: {skipped[scene]}"


@dataclass(frozen=True)
class _RowReport:
    """Findings of one sample; statistics and bytes of its point labels if they are readable."""

    findings: list[Finding]
    statistics: LabelStatistics | None = None
    label_bytes: int = 0


class _RowCheck:
    """Checks images, sweep and point labels of one index row."""

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
            statistics = LabelStatistics.from_json(
                read_label_header(path)["statistics"], len(self.dataset.classes)
            )
            findings += [Finding("point labels", f"{path}: {f}") for f in self._labels(frame)]
            return _RowReport(findings, statistics, path.stat().st_size)
        except (OSError, KeyError, ValueError) as error:
            return _RowReport([*findings, Finding("point labels", str(error))])

    def _images(self, frame: Frame) -> Iterator[str]:
        for camera in range(frame.num_cameras):
            try:
                image = self.dataset.image_file(frame, camera)
                if self.full:
                    image.decode()
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
            if not inside.all():
                yield f"points of {channel} are outside the image; remove the file"


def _summary(
    dataset: FrameDataset, skipped: Mapping[str, str], reports: Sequence[_RowReport]
) -> str:
    """Formats the size of a split and of its readable point labels."""
    index = dataset.index
    text = (
        f"{dataset.name}: {len(index)} samples of {len(index.scene_names)} scenes, cameras "
        f"{', '.join(index[0].channels)}; {index.num_annotations} objects"
    )
    if skipped:
        text += f"; incomplete scenes left out: {', '.join(sorted(skipped))}"
    if gaps := index.gap_report():
        text += f"; {gaps}"
    if dataset.label_dir is None:
        return f"{text}; no annotations, so no point labels"
    labelled = [report for report in reports if report.statistics is not None]
    points = sum(int(report.statistics.points.sum()) for report in labelled)
    size = sum(report.label_bytes for report in labelled)
    return f"{text}; point labels of {len(labelled)} samples, {points} points, {size / 1e6:.1f} MB"
