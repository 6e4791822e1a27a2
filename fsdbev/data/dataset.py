"""A data set on disk: its index and where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .index import FrameIndex
from .point_labels import PointLabels, label_path, read_point_labels
from .records import Frame


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

    def image(self, frame: Frame, camera: int) -> Image.Image:
        """A camera's RGB image.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it can't be decoded, or its size is not the index's.
        """
        path = self.dataroot / frame.image_paths[camera]
        try:
            image = Image.open(path)
            image.load()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path}: no such image; is the data root right?") from error
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{path}: can't be decoded ({error}); fetch it again") from error
        width, height = frame.image_sizes[camera]
        if image.size != (width, height):
            raise ValueError(f"{path}: {image.size} px, but the index says {(width, height)}")
        return image if image.mode == "RGB" else image.convert("RGB")

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
