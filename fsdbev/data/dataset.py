"""A data set on disk: its frame index, images and point labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fsdbev.structures import ClassSet

from .index.frame_index import FrameIndex
from .index.records import UNKNOWN_CRC, Annotations, Frame
from .io.image_file import ImageFile
from .io.rectify import rectify
from .labels.point_labels import PointLabels, label_path, read_point_labels
from .transforms.foreground_targets import objects_in_view


@dataclass(frozen=True)
class FrameDataset:
    """A data set as the catalog returns it.

    Pickles as a few paths, so that passing it to a loader worker is cheap.

    Attributes:
        name: name in the catalogs.
        index: its samples, one row per sample.
        dataroot: folder that the paths in the index are relative to.
        label_dir: folder of the point labels; None for a data set without point labels.
        cameras: names of the cameras to use, in this order; None for those of the index. The key
            ego frame stays that of the index's reference camera.

    Raises:
        ValueError: ``cameras`` is empty, repeats a name, or has one that the index lacks.
    """

    name: str
    index: FrameIndex
    dataroot: Path
    label_dir: Path | None = None
    cameras: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.cameras is None:
            return
        names = () if isinstance(self.cameras, str) else tuple(self.cameras)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"cameras must be a list of different names, got {self.cameras!r}")
        object.__setattr__(self, "cameras", names)
        self.frame(0)

    @property
    def classes(self) -> ClassSet:
        """The classes that the annotations' ids index."""
        return self.index.classes

    def frame(self, row: int) -> Frame:
        """Returns a sample with the cameras to use.

        Raises:
            ValueError: the sample lacks one of ``cameras``.
        """
        frame = self.index[row]
        return frame if self.cameras is None else frame.select(self.cameras)

    def annotations(self, row: int, cameras: Sequence[str] | None = None) -> Annotations:
        """Returns the objects of a sample, in its key ego frame.

        Args:
            row: row of the sample.
            cameras: names of the cameras that are used; None for those of the data set. With part
                of the index's cameras, objects without a 2D box in any of them are left out.
        """
        annotations = self.index.annotations(row)
        cameras = self.cameras if cameras is None else cameras
        if cameras is None:
            return annotations
        whole = self.index[row]
        if set(cameras) == set(whole.channels):
            return annotations
        return annotations.select(objects_in_view(whole.select(cameras), annotations))

    def classes_with_points(self) -> NDArray[np.bool_]:
        """Returns (rows, classes), True for rows with an object of the class with points."""
        if self.cameras is None:
            return self.index.classes_with_points
        present = np.zeros((len(self), len(self.classes)), np.bool_)
        for row in range(len(self)):
            objects = self.annotations(row)
            present[row, objects.class_ids[objects.has_points]] = True
        return present

    def __len__(self) -> int:
        return len(self.index)

    def image(
        self, frame: Frame, camera: int, at_least: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """Reads the image of one camera and rectifies it if the camera has a lens.

        Args:
            frame: a sample of the data set.
            camera: index of the camera, 0 .. N - 1.
            at_least: (width, height) that is needed, see ``ImageFile.decode``; None, or a camera
                with a lens: the size of the file.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            FileNotFoundError, ValueError: see :meth:`image_file`; also ValueError if the file can't
                be decoded.
        """
        file = self.image_file(frame, camera)
        lens = frame.lenses[camera] if frame.lenses else None
        if at_least is not None and lens is None:
            return file.decode(at_least)
        pixels = file.decode()
        return rectify(pixels, lens, frame.intrinsics[camera])

    def image_file(self, frame: Frame, camera: int) -> ImageFile:
        """Reads the file of an image without decoding it; arguments as for :meth:`image`.

        Raises:
            FileNotFoundError: the image file does not exist.
            ValueError: the file is no image, or its size or its checksum differs from the index.
        """
        path = self.dataroot / frame.image_paths[camera]
        image = ImageFile(path)
        expected = tuple(frame.image_sizes[camera].tolist())
        # Compared before decoding: a damaged or hostile header can declare gigabytes of pixels.
        if image.size != expected:
            raise ValueError(
                f"{path}: size {image.size} px differs from {expected} in the index; fetch it "
                "again, or write an index of these images"
            )
        crc = frame.image_crcs[camera]
        if crc != UNKNOWN_CRC and crc != image.crc:
            raise ValueError(
                f"{path}: its bytes have changed since {self.index.path} was written; fetch it "
                "again, or, if the change is wanted, remove the index and make it again"
            )
        return image

    def point_labels(self, frame: Frame) -> list[PointLabels]:
        """Reads the point labels of a sample, one entry per camera.

        The entries are empty if the data set has no point labels.

        Raises:
            FileNotFoundError, ValueError: as :func:`read_point_labels`; also ValueError if the file
                lacks a camera.
        """
        if self.label_dir is None:
            return [PointLabels.empty() for _ in frame.channels]
        path = label_path(self.label_dir, frame.sample_token)
        labels = read_point_labels(path, self.classes, self.index.info.get("source"))
        missing = [name for name in frame.channels if name not in labels]
        if missing:
            raise ValueError(
                f"{path}: has no labels of camera {missing[0]}, only of {', '.join(labels)}; "
                "remove it and make the labels again"
            )
        return [labels[name] for name in frame.channels]
