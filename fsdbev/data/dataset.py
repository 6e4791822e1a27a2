"""A data set on disk: its index and where its files are."""

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
    """What the catalog holds for a data set. Pickles as paths.

    Attributes:
        name: in the catalogs.
        index: its samples.
        dataroot: folder that the index's paths start from.
        label_dir: folder of the point labels; None if the data set has none.
    """

    name: str
    index: FrameIndex
    dataroot: Path
    label_dir: Path | None = None

    def __len__(self) -> int:
        return len(self.index)

    def image(self, frame: Frame, camera: int) -> NDArray[np.uint8]:
        """A camera's image, (height, width, 3) RGB.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it can't be decoded, or its size is not the index's.
        """
        path = self.dataroot / frame.image_paths[camera]
        image = ImageFile(path)
        expected = tuple(frame.image_sizes[camera].tolist())
        if image.size != expected:  # before it is decoded: its header may claim gigabytes
            raise ValueError(
                f"{path}: {image.size} px, but the index says {expected}; fetch it again, or make "
                "an index of these images"
            )
        return image.decode()

    def point_labels(self, frame: Frame) -> list[PointLabels]:
        """Point labels of a sample, an entry a camera; none where the data set has no labels."""
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
