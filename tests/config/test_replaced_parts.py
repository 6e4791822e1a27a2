"""Configs whose parts are replaced, wrapped or copied, as users of Detectron2 do it."""

import json
import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from torch import nn

from fsdbev.config import complete_config, load_config, read_config, resolved
from fsdbev.d2.config import LazyCall as L, LazyConfig, instantiate
from fsdbev.d2.layers import ShapeSpec
from fsdbev.modeling.registry import PART_REGISTRY

TINY = str(Path(__file__).parents[2] / "configs/fsdbev_tiny_synthetic.py")


class OtherEncoder(nn.Module):
    def __init__(self, *, frame_channels, num_frames, out_channels, levels, dropout=0.25):
        super().__init__()
        self.options = (frame_channels, num_frames, out_channels, levels, dropout)


@pytest.fixture
def other_encoder(monkeypatch):
    monkeypatch.setitem(PART_REGISTRY._obj_map, "OtherEncoder", OtherEncoder)


def test_a_new_name_brings_its_own_arguments(other_encoder):
    overrides = ["model.bev_encoder.levels=3", "model.bev_encoder.name=OtherEncoder"]
    cfg = load_config(TINY, overrides)
    assert "bn_momentum" not in cfg.model.bev_encoder
    assert instantiate(cfg.model.bev_encoder).options == (16, 2, 32, 3, 0.25)
    cfg = load_config(TINY, [*overrides, "model.bev_encoder.dropout=0.5"])
    assert instantiate(cfg.model.bev_encoder).options[-1] == 0.5


def test_a_name_in_a_mapping_brings_its_own_arguments(other_encoder):
    cfg = load_config(TINY, ["model.bev_encoder={name: OtherEncoder}"])
    assert "bn_momentum" not in cfg.model.bev_encoder and "dropout" in cfg.model.bev_encoder
    with pytest.raises(ValueError, match=r"model\.neck\.name: no part .* 'Nope'"):
        load_config(TINY, ["model.neck={name: Nope}"])


def test_a_name_may_be_a_reference():
    cfg = read_config(TINY)
    cfg.which, cfg.model.depth_net.name = "DepthNet", "${which}"
    assert complete_config(cfg).model.depth_net == cfg.model.depth_net


def test_a_required_argument_of_the_new_part_is_missing(other_encoder):
    cfg = load_config(TINY, ["model.bev_encoder.name=OtherEncoder"])
    assert OmegaConf.is_missing(cfg.model.bev_encoder, "levels")


def test_an_unchanged_name_keeps_its_arguments():
    assert load_config(TINY, ["model.bev_encoder.name=BEVEncoder"]) == load_config(TINY)


class Wrapper(nn.Module):
    def __init__(self, inner, **others):
        super().__init__()
        self.inner = inner


def test_wrapped_parts_keep_their_sizes():
    """References of mapper, data set, evaluator and parts do not depend on their depth."""
    cfg = read_config(TINY)
    plain = resolved(cfg)
    cfg.model.view_transform = L(Wrapper)(inner=cfg.model.view_transform)
    cfg.model.neck = L(Wrapper)(inner=cfg.model.neck, out_channels=cfg.model.neck.out_channels)
    loader = cfg.dataloader
    loader.train.mapper = L(Wrapper)(inner=loader.train.mapper)
    loader.train.dataset = L(Wrapper)(inner=loader.train.dataset)
    loader.evaluator = [loader.evaluator, L(Wrapper)(inner=loader.evaluator)]
    wrapped = resolved(complete_config(cfg))
    assert wrapped.model.view_transform.inner == plain.model.view_transform
    assert wrapped.model.neck.inner == plain.model.neck
    assert wrapped.dataloader.train.mapper.inner == plain.dataloader.train.mapper
    assert wrapped.dataloader.train.dataset.inner == plain.dataloader.train.dataset
    assert wrapped.dataloader.evaluator[0] == plain.dataloader.evaluator
    assert wrapped.dataloader.evaluator[1].inner == plain.dataloader.evaluator


class OtherBackbone(nn.Module):
    def output_shape(self):
        return {f"stage{i}": ShapeSpec(channels=4 + i, stride=4 * 2**i) for i in range(4)}

    def forward(self, images):
        sizes = [
            (images.shape[-2] // shape.stride, shape) for shape in self.output_shape().values()
        ]
        return [images.new_ones(len(images), s.channels, h, 2 * h) for h, s in sizes]


def test_the_neck_takes_the_channels_of_a_replaced_backbone():
    cfg = read_config(TINY)
    cfg.model.backbone = L(OtherBackbone)()
    model = instantiate(complete_config(cfg).model)
    assert [conv.in_channels for conv in model.neck.lateral_convs] == [4, 5, 6, 7]
    maps = model.neck(model.backbone(torch.zeros(1, 3, 64, 128)))
    assert [tuple(x.shape[1:]) for x in maps] == [(32, 16, 32), (32, 8, 16), (32, 4, 8)]


def test_the_default_neck_fits_the_output_shape_of_its_backbone():
    cfg = load_config(TINY)
    explicit = instantiate(cfg.model)
    cfg.model.neck.in_channels = None
    asked = instantiate(cfg.model)
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (explicit, asked)]
    assert shapes[0] == shapes[1]


def resolved_names(node):
    """The config as plain values with the names of its targets."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        LazyConfig.save(node, file.name)
        return yaml.safe_load(Path(file.name).read_text())


def test_a_second_model_does_not_take_the_sizes_of_the_first():
    cfg = read_config(TINY)
    cfg.teacher = cfg.model
    with pytest.raises(ValueError, match=r"teacher\..*refer to \$\{teacher\.KEY\}"):
        complete_config(cfg)
    own = json.loads(json.dumps(resolved_names(cfg.model)).replace("${model.", "${teacher."))
    cfg.teacher = OmegaConf.create(own)
    cfg.model.grid.cell = 0.5
    assert complete_config(cfg).teacher.head.grid.cell == 1.0
