"""Images with classes and masks in nuImages' format, for the training of image backbones.

Shapes: (H, W) network image, (h, w) original image, M objects, K classes.
"""

from __future__ import annotations

import base64
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fsdbev.structures import ClassSet

from .io.image_file import ImageFile
from .transforms.image_aug import ImageAugmentation, ImageTransform
from .transforms.photometric import PixelAugmentation, augment_pixels

#: Largest number of objects in an image; an index in a mask has one byte, 0 for the background.
MAX_OBJECTS = 255


@dataclass(frozen=True)
class LabelledImage:
    """An annotated image of nuImages.

    Attributes:
        sample_token: token of the sample.
        filename: file name, relative to the data root.
        objects: class id and mask of each object. A mask is in COCO's run-length encoding:
            ``size`` [h, w] and ``counts``, in base64.
    """

    sample_token: str
    filename: str
    objects: Sequence[tuple[int, dict[str, Any]]]


class NuImages:
    """The annotated images of a version of nuImages (nuscenes.org/nuimages).

    Args:
        dataroot: folder that contains the folder ``version``.
        version: "v1.0-train", "v1.0-val" or "v1.0-mini".
        classes: the classes; objects of other categories are background.

    Attributes:
        dataroot: the folder.
        name: name for messages.
        index: the images.
        classes: the classes.
        cameras: None, all cameras are used.

    Raises:
        FileNotFoundError: the folder of the version or a table does not exist.
        ValueError: a table is no JSON file, lacks a record or a field, or no image has an
            object of the classes.
    """

    cameras = None

    def __init__(self, *, dataroot: str | os.PathLike, version: str, classes: ClassSet) -> None:
        self.dataroot = Path(dataroot)
        self.name = f"nuimages_{version}"
        self.classes = classes
        folder = self.dataroot / version
        try:
            self.index = _annotated_images(folder, classes)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{folder}: the tables lack {error}; they must be nuImages' tables, as from "
                "nuscenes.org/nuimages"
            ) from error
        if not any(image.objects for image in self.index):
            raise ValueError(
                f"{folder}: no image has an object of the classes {', '.join(classes.names)}"
            )

    def __len__(self) -> int:
        return len(self.index)

    def classes_with_points(self) -> NDArray[np.bool_]:
        """Returns (images, K) whether an image has an object of each class, for CBGS."""
        present = np.zeros((len(self), len(self.classes)), bool)
        for row, image in enumerate(self.index):
            present[row, [class_id for class_id, _ in image.objects]] = True
        return present


def _annotated_images(folder: Path, classes: ClassSet) -> list[LabelledImage]:
    class_ids = {
        record["token"]: classes.id_of_category(record["name"])
        for record in _read_table(folder, "category")
    }
    objects: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for record in _read_table(folder, "object_ann"):
        class_id = class_ids[record["category_token"]]
        # nuImages has boxes without a mask.
        if class_id >= 0 and record["mask"]:
            mask = {key: record["mask"][key] for key in ("size", "counts")}
            objects[record["sample_data_token"]].append((class_id, mask))
    images = [r for r in _read_table(folder, "sample_data") if r["is_key_frame"]]
    return [
        LabelledImage(r["sample_token"], r["filename"], objects.get(r["token"], [])) for r in images
    ]


def _read_table(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such table; set dataloader.dataroot to the folder of nuImages"
        )
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); fetch it again") from error
    if not isinstance(table, list):
        raise ValueError(f"{path}: not a list of records; fetch it again")
    return table


class ImageLabelMapper:
    """Loads and augments an image of :class:`NuImages` with its labels.

    The sample dict has these entries:

    - ``images``: (3, H, W) uint8 RGB.
    - ``sample_token``: token of the sample.
    - ``gt_objects``: (H, W) uint8, number of the object that is visible at each pixel, 0 for the
      background.
    - ``gt_classes``: (M,) int64, class of the objects 1 .. M.

    Args:
        image_aug: draws the image transforms and defines the network image size.
        training: random augmentation; otherwise the fixed transform.
        augmentations: functions that are applied to the network images in training, see
            ``MultiViewMapper``.
    """

    def __init__(
        self,
        *,
        image_aug: ImageAugmentation,
        training: bool,
        augmentations: Sequence[PixelAugmentation] = (),
    ) -> None:
        self.image_aug = image_aug
        self.training = training
        self.augmentations = tuple(augmentations)

    def __call__(
        self, dataset: NuImages, row: int, generator: np.random.Generator | None = None
    ) -> dict[str, Any]:
        """Returns the sample dict of a row.

        Args:
            dataset: the images.
            row: number of the image in ``dataset.index``.
            generator: random numbers of the augmentation; needed in training.

        Raises:
            FileNotFoundError, ValueError: the image is missing or damaged, or the mask of an object
                has another size than the image.
            ValueError: ``generator`` is None in training.
        """
        if self.training and generator is None:
            raise ValueError("training samples need a random generator")
        record = dataset.index[row]
        image = ImageFile(dataset.dataroot / record.filename)
        if self.training:
            transform = self.image_aug.sample(image.size, generator)
        else:
            transform = self.image_aug.fixed(image.size)
        pixels = transform.apply(image.decode())
        if self.training and self.augmentations:
            seed = int(generator.integers(2**32))
            pixels = augment_pixels(pixels, self.augmentations, seed)
        objects = _object_map(record, image.size)
        return {
            "images": torch.from_numpy(pixels),
            "sample_token": record.sample_token,
            "gt_objects": torch.from_numpy(_warp(objects, transform)),
            "gt_classes": torch.tensor([c for c, _ in record.objects[:MAX_OBJECTS]]).long(),
        }


def _object_map(record: LabelledImage, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns the (h, w) numbers of the objects at the pixels of the original image."""
    width, height = size
    objects = np.zeros((height, width), np.uint8)
    for number, (_, mask) in enumerate(record.objects[:MAX_OBJECTS], start=1):
        if list(mask["size"]) != [height, width]:
            raise ValueError(
                f"{record.filename}: a mask has the size {mask['size']}, the image has "
                f"{[height, width]}"
            )
        encoded = {"size": mask["size"], "counts": base64.b64decode(mask["counts"])}
        objects[coco_mask.decode(encoded) > 0] = number
    return objects


def _warp(objects: NDArray[np.uint8], transform: ImageTransform) -> NDArray[np.uint8]:
    """Applies an image transform to numbers of objects, without mixing them."""
    # The matrix acts on coordinates with (0, 0) at the corner of a pixel, OpenCV's at its centre.
    to_corner, to_center = np.eye(3), np.eye(3)
    to_corner[:2, 2], to_center[:2, 2] = 0.5, -0.5
    affine = np.eye(3)
    affine[:2] = transform.matrix()[:2, [0, 1, 3]]
    affine = (to_center @ affine @ to_corner)[:2]
    return cv2.warpAffine(objects, affine, transform.output, flags=cv2.INTER_NEAREST)
