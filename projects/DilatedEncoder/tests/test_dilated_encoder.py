"""The tutorial's encoder: any grid size, receptive field, length of its file."""

import inspect
from pathlib import Path

import torch

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.modeling import BEVEncoder
from projects.DilatedEncoder.modeling import DilatedBEVEncoder, dilated_encoder

ROOT = Path(__file__).parents[3]


def test_accepts_the_arguments_of_the_default_encoder():
    own, other = (inspect.signature(cls).parameters for cls in (DilatedBEVEncoder, BEVEncoder))
    assert set(other) <= set(own)
    cfg = load_config(
        str(ROOT / "configs" / "fsdbev_tiny_synthetic.py"),
        [
            "train.plugins=[projects.DilatedEncoder]",
            "model.bev_encoder.name=DilatedBEVEncoder",
            "model.grid.x_range=[0.0,51.0]",
        ],
    )
    model = instantiate(cfg.model)
    assert type(model.bev_encoder) is DilatedBEVEncoder
    assert model.grid.shape == (56, 51)  # no multiple of 8: it has no strides


def test_keeps_the_size_of_any_grid():
    encoder = DilatedBEVEncoder(frame_channels=4, num_frames=2, out_channels=6).eval()
    assert encoder(torch.rand(3, 8, 7, 11)).shape == (3, 6, 7, 11)


def test_receptive_field_is_that_of_the_dilations():
    torch.manual_seed(0)
    sizes = {"frame_channels": 2, "num_frames": 1, "width": 32}
    encoder = DilatedBEVEncoder(**sizes, dilations=(1, 2, 4)).eval()
    bev_feats = torch.zeros(1, 2, 1, 41)
    changed = bev_feats.clone()
    changed[..., 20] = 1
    difference = (encoder(changed) != encoder(bev_feats)).any(dim=1).squeeze()
    reach = 1 + 1 + 2 + 4
    assert difference.nonzero().squeeze().tolist() == list(range(20 - reach, 20 + reach + 1))


def test_file_is_short_enough_for_a_tutorial():
    assert len(Path(dilated_encoder.__file__).read_text().splitlines()) < 80
