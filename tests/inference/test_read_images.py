"""Images for the predictor: those of cameras with a lens are rectified."""

import numpy as np
import torch
from PIL import Image

from fsdbev.data.io.rectify import rectify
from fsdbev.inference.predictor import read_images
from fsdbev.structures import Lens, Rig


def test_images_of_a_camera_with_a_lens_are_rectified(tmp_path):
    intrinsics = torch.tensor([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]]).double()
    lens = Lens("fisheye", intrinsics, (0.1, 0, 0, 0))
    rectified = intrinsics * torch.tensor([[0.7], [0.7], [1]])
    rig = Rig(
        channels=("plain", "wide"),
        image_sizes=((80, 60), (80, 60)),
        intrinsics=torch.stack([intrinsics, rectified]),
        cam2ego=torch.eye(4).repeat(2, 1, 1),
        lenses=(None, lens),
    )
    raw = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(raw).save(tmp_path / "wide.png")
    for wide in (raw, tmp_path / "wide.png"):
        found = read_images([raw, wide], rig)
        assert np.array_equal(found[0], raw)
        assert np.array_equal(found[1], rectify(raw, lens, rectified))
    assert not np.array_equal(found[1], raw)
