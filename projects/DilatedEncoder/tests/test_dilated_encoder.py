"""The tutorial's encoder: it takes any grid, sees far, and is small."""

import inspect
from pathlib import Path

import torch

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.modeling import BEVEncoder
from projects.DilatedEncoder.modeling import DilatedBEVEncoder, dilated_encoder

ROOT = Path(__file__).parents[3]


def test_takes_what_the_encoder_takes_whose_place_it_takes():
    own, other = (inspect.signature(cls).parameters for cls in (DilatedBEVEncoder, BEVEncoder))
    assert set(other) <= set(own)
    cfg = load_config(
        str(ROOT / "configs" / "fsdbev_tiny_synthetic.py"),
        ["train.plugins=[projects.DilatedEncoder]", "model.bev_encoder.name=DilatedBEVEncoder"],
    )
    assert type(instantiate(cfg.model).bev_encoder) is DilatedBEVEncoder


def test_keeps_cells_of_any_grid():
    encoder = DilatedBEVEncoder(frame_channels=4, num_frames=2, out_channels=6).eval()
    assert encoder(torch.rand(3, 8, 7, 11)).shape == (3, 6, 7, 11)


def test_sees_as_far_as_its_dilations_reach():
    torch.manual_seed(0)
    sizes = {"frame_channels": 2, "num_frames": 1, "width": 32}
    encoder = DilatedBEVEncoder(**sizes, dilations=(1, 2, 4)).eval()
    bev_feats = torch.zeros(1, 2, 1, 41)
    changed = bev_feats.clone()
    changed[..., 20] = 1
    difference = (encoder(changed) != encoder(bev_feats)).any(dim=1).squeeze()
    reach = 1 + 1 + 2 + 4
    assert difference.nonzero().squeeze().tolist() == list(range(20 - reach, 20 + reach + 1))


def test_fits_a_tutorial():
    assert len(Path(dilated_encoder.__file__).read_text().splitlines()) < 80
