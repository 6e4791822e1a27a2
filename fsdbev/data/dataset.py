"""A data set on disk: its frame index, images and point labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .index.frame_index import FrameIndex
from .index.records import Frame
from .io.image_file import ImageFile
from .labels.point_labels import PointLabels, label_path, read_point_labels


@dataclass(frozen=True)
class FrameDataset:
    """A data set as the catalog returns it.

    Pickles as a few paths, so that passing it to a loader worker is cheap.

    Attributes:
        name: name in the catalogs.
        index: its samples, one row per sample.
        dataroot: folder that the paths in the index are relative to.
        label_dir: folder of the point labels; None for a data set without point labels.
    """

    name: str
    index: FrameIndex
    dataroot: Path
    label_dir: Path | None = None

    def __len__(self) -> int:
        return len(self.index)

    def image(self, frame: Frame, camera: int) -> NDArray[np.uint8]:
        """Reads the image of one camera.

        Args:
            frame: a sample of the index.
            camera: index of the camera, 0 .. N - 1.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            FileNotFoundError: the image file does not exist.
            ValueError: the file can't be decoded, or its size differs from the index.
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
        return image.decode()

    def point_labels(self, frame: Frame) -> list[PointLabels]:
        """Reads the point labels of a sample, one entry per camera.

        The entries are empty if the data set has no point labels.

        Raises:
            FileNotFoundError, ValueError: as :func:`read_point_labels`; also ValueError if the file
                has another number of cameras than the index.
        """
        if self.label_dir is None:
            return [PointLabels.empty() for _ in frame.channels]
        path = label_path(self.label_dir, frame.sample_token)
        labels = read_point_labels(path, self.index.info.get("source"))
        if len(labels) != frame.num_cameras:
            raise ValueError(
                f"{path}: labels of {len(labels)} cameras, but the index has {frame.num_cameras}; "
                "remove it and make the labels again"
            )
        return labels
