"""Images with 2D boxes and masks in nuImages' format: written, read and mapped."""

import json
import shutil

import numpy as np
import pytest
import torch
from nuimages import NuImages as Devkit
from nuimages.utils.utils import mask_decode, name_to_index_mapping
from PIL import Image

from fsdbev.data.build import build_train_loader
from fsdbev.data.nuimages import ImageLabelMapper, NuImages
from fsdbev.data.synthetic import SyntheticOptions, generate
from fsdbev.data.transforms.image_aug import ImageAugmentation
from fsdbev.structures import NUSCENES_CLASSES

VERSION = "v1.0-train"


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory):
    root = tmp_path_factory.mktemp("nuimages") / "data"
    options = SyntheticOptions(
        scenes_train=1, scenes_val=1, frames=1, image_size=(240, 136), format="nuimages", seed=3
    )
    generate(str(root), options)
    return root


def images_of(root, version=VERSION):
    return NuImages(dataroot=root, version=version, classes=NUSCENES_CLASSES)


def mapper(training=False, **options):
    return ImageLabelMapper(
        image_aug=ImageAugmentation(image_size=(64, 120), **options), training=training
    )


def test_devkit_reads_the_same_masks(dataroot):
    devkit = Devkit(version=VERSION, dataroot=str(dataroot), lazy=True, verbose=False)
    dataset = images_of(dataroot)
    assert len(dataset) == len(devkit.sample_data) == 6
    keep = ImageLabelMapper(image_aug=ImageAugmentation(image_size=(136, 240)), training=False)
    for row, record in enumerate(devkit.sample_data):
        sample = keep(dataset, row)
        classes = torch.cat([torch.tensor([-1]), sample["gt_classes"]])
        found = classes[sample["gt_objects"].long()].numpy()
        semantic, _ = devkit.get_segmentation(record["token"])
        names = {index: name for name, index in name_to_index_mapping(devkit.category).items()}
        expected = [NUSCENES_CLASSES.id_of_category(names.get(i, "")) for i in range(32)]
        assert np.array_equal(found, np.array(expected)[semantic])
        assert (found >= 0).any()


def test_boxes_enclose_the_masks(dataroot):
    devkit = Devkit(version=VERSION, dataroot=str(dataroot), lazy=True, verbose=False)
    for record in devkit.object_ann:
        mask = mask_decode(record["mask"])
        rows, columns = np.nonzero(mask)
        assert record["bbox"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_labels_move_with_the_pixels(dataroot, tmp_path):
    """An image whose pixels are the numbers of its objects has equal pixels and labels."""
    shutil.copytree(dataroot, tmp_path / "data")
    dataset = images_of(tmp_path / "data")
    labels = ImageLabelMapper(image_aug=ImageAugmentation(image_size=(136, 240)), training=False)
    numbers = labels(dataset, 0)["gt_objects"].numpy()
    path = dataset.dataroot / dataset.index[0].filename
    Image.fromarray(np.repeat(numbers[..., None] * 9, 3, axis=2)).save(path, quality=100)
    augmented = mapper(training=True, scale=(0.9, 1.3), max_rotation=4.0)
    for seed in range(8):
        sample = augmented(dataset, 0, np.random.default_rng(seed))
        drawn = sample["images"][0].float() / 9
        assert (drawn - sample["gt_objects"]).abs().lt(0.5).float().mean() > 0.93


def test_loader_is_reproducible(dataroot):
    def batch():
        loader = build_train_loader(
            dataset=images_of(dataroot),
            mapper=mapper(training=True),
            total_batch_size=3,
            class_balanced=False,
            num_workers=0,
            seed=5,
        )
        return next(iter(loader))

    first, second = batch(), batch()
    assert [s["sample_token"] for s in first] == [s["sample_token"] for s in second]
    assert all(torch.equal(a["images"], b["images"]) for a, b in zip(first, second))
    assert all(torch.equal(a["gt_objects"], b["gt_objects"]) for a, b in zip(first, second))


def edited(dataroot, tmp_path, table, change):
    root = tmp_path / "edited"
    shutil.copytree(dataroot, root)
    path = root / VERSION / f"{table}.json"
    records = json.loads(path.read_text())
    path.write_text(change(records))
    return root


def without_category(records):
    return json.dumps([{k: v for k, v in r.items() if k != "category_token"} for r in records])


def without_counts(records):
    return json.dumps([r | {"mask": r["mask"] and {"size": r["mask"]["size"]}} for r in records])


@pytest.mark.parametrize(
    "table, change, message",
    [
        ("category", lambda records: "[{", "category.json: not JSON"),
        ("category", lambda records: "{}", "category.json: not a list of records"),
        ("object_ann", without_counts, "the tables lack 'counts'"),
        ("object_ann", without_category, "the tables lack 'category_token'"),
        ("object_ann", lambda records: "[]", "no image has an object of the classes car"),
    ],
    ids=["damaged", "mapping", "mask", "field", "empty"],
)
def test_unsuitable_tables(dataroot, tmp_path, table, change, message):
    with pytest.raises(ValueError, match=message):
        images_of(edited(dataroot, tmp_path, table, change))


def test_missing_version(tmp_path):
    with pytest.raises(FileNotFoundError, match="set dataloader.dataroot"):
        images_of(tmp_path)


def test_classes_of_each_image(dataroot):
    dataset = images_of(dataroot)
    present = dataset.classes_with_points()
    assert present.shape == (len(dataset), 10) and present.any()
    for row, image in enumerate(dataset.index):
        assert set(np.flatnonzero(present[row])) == {class_id for class_id, _ in image.objects}


def test_training_needs_random_numbers(dataroot):
    with pytest.raises(ValueError, match="need a random generator"):
        mapper(training=True)(images_of(dataroot), 0)


def test_mask_of_another_size(dataroot, tmp_path):
    shutil.copytree(dataroot, tmp_path / "data")
    dataset = images_of(tmp_path / "data")
    row = next(i for i, image in enumerate(dataset.index) if image.objects)
    Image.new("RGB", (100, 50)).save(dataset.dataroot / dataset.index[row].filename)
    with pytest.raises(ValueError, match=r"a mask has the size \[136, 240\], the image has"):
        mapper()(dataset, row)
