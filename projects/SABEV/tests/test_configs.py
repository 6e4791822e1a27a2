"""What the configs say, against the release's."""

from pathlib import Path

import pytest
import torch

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.engine import load_config
from fsdbev.engine.optim import build_optimizer
from projects.SABEV.modeling import SABEV

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
STRIDES = {"sabev_r50": 16, "sabev_r50_msct": 8, "sabev_r50_msct_cbgs": 8}


def load(name):
    return load_config(str(CONFIGS[0].with_name(f"{name}.py")))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_of_this_model_and_survives_saving(path, tmp_path):
    cfg = load_config(str(path))
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    model = instantiate(load_config(str(tmp_path / "config.yaml")).model)
    assert type(model) is SABEV
    assert isinstance(build_optimizer(cfg.optimizer, model), torch.optim.AdamW)
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert (mapper.num_frames, mapper.grid) == (model.num_frames, model.grid)
    assert not mapper.frame_combination and not mapper.pseudo_points
    assert len(path.read_text().splitlines()) <= 50


@pytest.mark.parametrize("name, stride", STRIDES.items())
def test_settings_of_the_release(name, stride):
    cfg = load(name)
    assert (cfg.model.depth_net.aspp_channels, cfg.model.stride) == (512, stride)
    assert cfg.model.num_frames == 2 and instantiate(cfg.model.grid).shape == (128, 128)
    assert (cfg.model.depth_loss_weight, cfg.model.semantic_loss_weight) == (3, 25)
    augmentation = instantiate(cfg.dataloader.image_aug)
    to_input = 704 / 1600
    resize = [to_input * scale for scale in augmentation.scale]
    assert resize == pytest.approx([to_input - 0.06, to_input + 0.11])
    assert not augmentation.scale_depth
    assert cfg.dataloader.train.total_batch_size == 32
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay) == (2e-4, 1e-2)


@pytest.mark.parametrize(
    "name, class_balanced, epochs, samples",
    [
        ("sabev_r50", False, 24, 28130),
        ("sabev_r50_msct", False, 24, 28130),
        ("sabev_r50_msct_cbgs", True, 20, 123580),
    ],
)
def test_schedule_of_the_release(name, class_balanced, epochs, samples):
    cfg = load(name)
    assert cfg.dataloader.train.class_balanced == class_balanced
    assert cfg.train.max_iter * 32 == pytest.approx(epochs * samples, rel=1e-4)


def test_the_cross_task_head_takes_the_backbone_s_channels():
    cfg = load("sabev_r50_msct")
    assert instantiate(cfg.model.depth_net).fine_reduce[0].in_channels == 512
    cfg.model.backbone.merge_with({"depth": 18, "width": 16})
    assert instantiate(cfg.model.depth_net).fine_reduce[0].in_channels == 32
