"""Parts as calls of their classes and parts by name give the same model, also from YAML."""

from pathlib import Path

import pytest
import torch
from hydra.utils import get_object

from fsdbev.config import config_text, load_config
from fsdbev.d2.config import LazyCall as L, instantiate
from fsdbev.modeling import FSDBEV, CenterHead, ResNet
from fsdbev.modeling.registry import META_ARCH_REGISTRY, PART_REGISTRY

BY_NAME = Path(__file__).parents[2] / "configs" / "fsdbev_tiny_synthetic.py"
SMALL = ["model.grid.cell=7.0", "model.backbone.width=4", "model.neck.out_channels=8"]


def by_class(call):
    """Returns a call of the registered class in place of ``build_part`` or ``build_meta_arch``."""
    registry = {**dict(PART_REGISTRY), **dict(META_ARCH_REGISTRY)}
    arguments = {key: call._get_node(key) for key in call if key not in ("_target_", "name")}
    return L(registry[call.name])(**arguments)


def weights(cfg):
    torch.manual_seed(0)
    return instantiate(cfg.model).state_dict()


@pytest.fixture
def configs():
    """The small model by name, and with backbone, head and model by class."""
    by_name, other = (load_config(str(BY_NAME), SMALL) for _ in range(2))
    model = other.model
    model.backbone, model.head = by_class(model.backbone), by_class(model.head)
    other.model = by_class(model)
    targets = [other.model._target_, other.model.backbone._target_, other.model.head._target_]
    assert targets == [FSDBEV, ResNet, CenterHead]
    return by_name, other


def test_models_are_equal(configs):
    by_name, other = map(weights, configs)
    assert by_name.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in by_name.items())


def test_saved_calls_of_classes_load_again(configs, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(config_text(configs[1]))
    saved = load_config(str(path))
    assert get_object(saved.model.backbone._target_) is ResNet
    assert "name" not in saved.model
    # Detectron2 sorts the keys, so that the parts draw their weights in another order.
    shapes = [{n: v.shape for n, v in weights(cfg).items()} for cfg in (configs[1], saved)]
    assert shapes[0] == shapes[1]
    # References still lead to the arguments.
    overridden = load_config(str(path), ["model.backbone.width=8"])
    assert weights(overridden)["neck.lateral_convs.3.weight"].shape[1] == 64
