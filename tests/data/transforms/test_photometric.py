"""Augmentations of pixels: the colours of ColorJitter, and augmentations of the mapper."""

import colorsys
import hashlib
import random

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from fsdbev.d2.config import LazyCall as L, instantiate
from fsdbev.data.build import build_train_loader
from fsdbev.data.transforms.photometric import ColorJitter

STRENGTHS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def jittered(image, seed=0, **strengths):
    torch.manual_seed(seed)
    return ColorJitter(**strengths)(image)


def draws(mapper, dataset, seed=3, row=1):
    return mapper(dataset, row, np.random.default_rng(seed))


def test_color_jitter_depends_on_torch_seed_only(image):
    before = image.copy()
    first, same, other = (jittered(image, seed, **STRENGTHS) for seed in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)
    assert np.array_equal(image, before) and first.dtype == np.uint8 and first.shape == image.shape
    assert np.array_equal(jittered(image), image)


def test_color_jitter_factors_have_their_range(image):
    """Brightness multiplies the values; contrast and saturation move them from a mean."""
    means = [jittered(image, seed, brightness=0.5).mean() / image.mean() for seed in range(60)]
    assert 0.5 <= min(means) < 0.6 and 1.2 < max(means) < 1.5
    spreads = [jittered(image, seed, contrast=0.5).std() / image.std() for seed in range(60)]
    assert 0.48 < min(spreads) < 0.6 and 1.05 < max(spreads) < 1.5
    grey = jittered(image, 0, saturation=1.0).astype(int)
    assert not np.array_equal(grey, image)
    pixel = np.full((1, 1, 3), (200, 40, 40), np.uint8)
    hue = colorsys.rgb_to_hsv(200 / 255, 40 / 255, 40 / 255)[0]
    for seed in range(10):
        found = colorsys.rgb_to_hsv(*(jittered(pixel, seed, hue=0.1)[0, 0] / 255))[0]
        assert min(abs(found - hue), 1 - abs(found - hue)) < 0.11


@pytest.mark.parametrize("wrong", [{"brightness": -0.1}, {"hue": 0.6}, {"hue": -0.1}])
def test_color_jitter_refuses_strengths_out_of_range(wrong):
    with pytest.raises(ValueError, match="at least 0 and hue in"):
        ColorJitter(**wrong)


def test_without_augmentations_samples_keep_their_bits(synthetic, mapper):
    """The hash is that of the sample before there were augmentations."""
    sample = draws(mapper(augmentations=[]), synthetic)
    content = b"".join(sample[key].numpy().tobytes() for key in ("images", "image_aug", "bev_aug"))
    assert hashlib.sha256(content).hexdigest()[:16] == "750e46ed0079b4e6"


def test_augmentations_change_pixels_in_training_only(synthetic, mapper):
    jitter = {"augmentations": [ColorJitter(**STRENGTHS)]}
    plain, changed, same = (draws(mapper(**options), synthetic) for options in ({}, jitter, jitter))
    for key, value in plain.items():
        if torch.is_tensor(value) and key != "images":
            assert torch.equal(changed[key], value), key
    assert torch.equal(changed["images"], same["images"])
    assert (changed["images"] != plain["images"]).flatten(2).any(dim=2).all()
    for options in ({}, jitter):
        sample = mapper(training=False, **options)(synthetic, 1)
        assert torch.equal(sample["images"], mapper(training=False)(synthetic, 1)["images"])


def test_cameras_draw_their_own_numbers_and_frames_share_them(rig, mapper):
    def fill(image):
        values = (random.random(), np.random.rand(), torch.rand(1).item())
        return np.full_like(image, [int(256 * value) for value in values])

    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    sample = draws(mapper(augmentations=[fill]), rig([(64, 48)] * 3))
    values = sample["images"][:, :, :, 0, 0]
    assert torch.equal(values[0], values[1]) and len(set(values[0].flatten().tolist())) > 6
    assert random.getstate() == states[0]  # of the caller: the model draws from them, too
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


def test_augmentations_run_in_order(rig, mapper):
    augmentations = [lambda image: image // 2, lambda image: image + np.uint8(7)]
    dataset = rig([(64, 48)])
    plain = draws(mapper(), dataset)["images"]
    changed = draws(mapper(augmentations=augmentations), dataset)["images"]
    assert torch.equal(changed, plain // 2 + 7)


def test_number_of_workers_does_not_matter(synthetic, mapper):
    def images(num_workers):
        loader = build_train_loader(
            dataset=synthetic,
            mapper=mapper(augmentations=[ColorJitter(**STRENGTHS)]),
            total_batch_size=1,
            num_workers=num_workers,
            seed=5,
        )
        batches = iter(loader)
        return [next(batches)[0]["images"] for _ in range(3)]

    for one, other in zip(images(0), images(2), strict=True):
        assert torch.equal(one, other)


def test_augmentations_come_from_a_config(mapper):
    cfg = DictConfig({"augmentations": [L(ColorJitter)(hue=0.1)]}, flags={"allow_objects": True})
    (jitter,) = mapper(augmentations=instantiate(cfg.augmentations)).augmentations
    assert isinstance(jitter, ColorJitter) and jitter.hue == 0.1
    with pytest.raises(ValueError, match="functions or instances.*got 'ColorJitter'"):
        mapper(augmentations=["ColorJitter"])


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (lambda image: image / 255, r"<lambda> must return a uint8 .*got float64 array of shape"),
        (lambda image: image[..., 0], r"got uint8 array of shape \(64, 176\)"),
        (lambda image: image.transpose(2, 0, 1), r"got uint8 array of shape \(3, 64, 176\)"),
        (lambda image: torch.from_numpy(image), "got Tensor"),
        (lambda image: None, "got NoneType"),
    ],
)
def test_other_results_of_an_augmentation_are_errors(rig, mapper, augmentation, message):
    augmentations = [ColorJitter(brightness=0.1), augmentation]
    with pytest.raises(ValueError, match=message):
        draws(mapper(augmentations=augmentations), rig([(64, 48)]))
