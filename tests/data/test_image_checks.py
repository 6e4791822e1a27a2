"""Checksums of images: all damage after the preparation is found, with and without simplejpeg."""

import shutil
import zlib
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from data_root import SPLIT, DataRoot

from fsdbev.data.build import MappedDataset, SampleError, build_train_loader
from fsdbev.data.image_checks import add_image_crcs
from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.index.records import UNKNOWN_CRC
from fsdbev.data.io import image_file
from fsdbev.data.nuscenes import index_builder


@pytest.fixture
def root(synthetic_root, tmp_path):
    return DataRoot.copy_of(synthetic_root, tmp_path / "data")


@pytest.fixture
def dataset(synthetic, root):
    """The training split, whose files the test may replace by ``root.write``."""
    return replace(synthetic, dataroot=root.path)


@pytest.fixture(params=["simplejpeg", "Pillow only"])
def decoder(request, monkeypatch):
    if request.param == "Pillow only":
        monkeypatch.setattr(image_file, "simplejpeg", None)
    elif image_file.simplejpeg is None:
        pytest.skip("simplejpeg is not installed")


def damaged(content, rng):
    """Yields the content with a hole of zeros, a lost part, its end missing, and a flipped bit."""
    size, place = rng.integers(64, 1000), rng.integers(len(content) - 1000)
    yield content[:place] + bytes(size) + content[place + size :]
    yield content[:place] + content[place + size :]
    yield content[:-size]
    flipped = bytearray(content)
    flipped[place] ^= 1 << rng.integers(8)
    yield bytes(flipped)


@pytest.mark.usefixtures("decoder")
def test_all_damage_after_the_preparation_is_found(dataset, root):
    rng = np.random.default_rng(0)
    for frame in dataset.index:
        for camera, name in enumerate(frame.image_paths):
            content = (root.path / name).read_bytes()
            assert frame.image_crcs[camera] == zlib.crc32(content)
            whole = dataset.image(frame, camera)
            for damage in damaged(content, rng):
                root.write(name, damage)
                with pytest.raises(ValueError, match=f"{name}: .*fetch it again"):
                    dataset.image(frame, camera)
            root.write(name, content)
            assert np.array_equal(dataset.image(frame, camera), whole)


def with_a_hole(root, channel="CAM_FRONT"):
    """Overwrites 512 bytes of the first sample's image by zeros; returns its name and content."""
    name = root.sensor_data(root.first_sample(), channel)["filename"]
    content = (root.path / name).read_bytes()
    half = len(content) // 2
    root.write(name, content[:half] + bytes(512) + content[half + 512 :])
    return name, content


def test_training_ends_or_counts_the_sample(dataset, root, mapper):
    name, _ = with_a_hole(root)
    token = dataset.index[0].sample_token
    message = f"sample {token}: .*{name}: its bytes have changed since .*{SPLIT}.arrow was written"
    with pytest.raises(SampleError, match=message):
        MappedDataset(dataset, mapper(training=False))[0]
    options = {"dataset": dataset, "mapper": mapper(num_frames=1), "total_batch_size": 1}
    loader = build_train_loader(**options, num_workers=0, seed=0, max_bad_samples=1)
    replaced = [sample.get("replaced", "") for (sample,) in islice(loader, 6)]
    assert any(name in text for text in replaced)


def test_chosen_cameras_have_their_own_checksums(dataset, root):
    channels = ("CAM_BACK", "CAM_FRONT")
    chosen = replace(dataset, cameras=channels)
    assert all(chosen.image(chosen.frame(0), camera) is not None for camera in range(2))
    name, _ = with_a_hole(root, "CAM_BACK")
    with pytest.raises(ValueError, match=name):
        chosen.image(chosen.frame(0), 0)
    assert chosen.image(chosen.frame(0), 1) is not None


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_preparation_decodes_all_images_and_lists_the_bad_ones(root, workers):
    pytest.importorskip("simplejpeg")
    hole, content = with_a_hole(root)
    cut = root.sensor_data(root.first_sample(), "CAM_BACK")["filename"]
    root.write(cut, (root.path / cut).read_bytes()[:-100])
    scene = root.table("scene")[0]["name"]
    with pytest.raises(ValueError, match=f"{SPLIT}.arrow: 2 of its images can't be used") as error:
        root.prepare(workers=workers)
    for name in (hole, cut):
        assert f"{scene}: {root.path / name}: can't be decoded (" in str(error.value)
    assert not list(root.output.rglob("*.arrow"))
    root.write(hole, content)
    with pytest.raises(ValueError, match="1 of its images can't be used"):
        root.prepare(workers=workers)


def test_without_simplejpeg_a_preparation_says_what_it_can_not_find(root, monkeypatch, caplog):
    monkeypatch.setattr(image_file, "simplejpeg", None)
    name, _ = with_a_hole(root)
    index = root.prepare().index
    assert f"older than {root.output / SPLIT}.arrow can't be found" in caplog.text
    assert UNKNOWN_CRC not in index[0].image_crcs
    monkeypatch.undo()
    assert [name in text for kind, text in root.check(full=True) if kind == "image"] == [True]


def test_an_index_of_ones_own(rig, tmp_path):
    dataset = rig([(64, 48), (30, 20)])
    frame = dataset.index[1]
    path = tmp_path / frame.image_paths[1]
    assert (frame.image_crcs == UNKNOWN_CRC).all()
    content = path.read_bytes()
    path.write_bytes(content + b"more")
    assert dataset.image(frame, 1) is not None  # nothing to compare it with
    path.write_bytes(content)
    shutil.copy(dataset.index.path, tmp_path / "before.arrow")
    index = add_image_crcs(dataset.index.path, tmp_path)
    before = FrameIndex(tmp_path / "before.arrow")
    assert index.info == before.info and index.classes == before.classes
    for row in range(3):
        crcs = [zlib.crc32((tmp_path / name).read_bytes()) for name in index[row].image_paths]
        assert index[row].image_crcs.tolist() == crcs
        assert np.array_equal(index[row].intrinsics, before[row].intrinsics)
        assert index.annotations(row).tokens == before.annotations(row).tokens
    path.write_bytes(content + b"more")
    with pytest.raises(ValueError, match="its bytes have changed"):
        replace(dataset, index=index).image(index[1], 1)


def test_a_second_preparation_decodes_nothing(root, monkeypatch):
    root.prepare()
    monkeypatch.setattr(image_file.ImageFile, "decode", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr(index_builder, "load_nuscenes", lambda *_: pytest.fail("tables loaded"))
    assert root.prepare().statistics.samples == 3
