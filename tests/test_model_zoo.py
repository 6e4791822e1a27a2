"""Configs for users outside of a clone of the project."""

import pytest

from fsdbev import model_zoo
from fsdbev.d2.config import LazyConfig


def test_config_by_its_path():
    cfg = model_zoo.get_config("fsdbev_tiny_synthetic.py")
    assert cfg == LazyConfig.load(str(model_zoo.CONFIGS / "fsdbev_tiny_synthetic.py"))
    assert model_zoo.get_config("common/train.py").train.plugins == []
    train, sizes = model_zoo.get_config("common/tiny_synthetic.py", ("train", "sizes"))
    assert train.max_iter == 700 and sizes.backbone.depth == 18


def test_each_call_returns_a_new_config():
    first, second = (model_zoo.get_config("common/train.py") for _ in range(2))
    first.train.max_iter = 1
    assert second.train.max_iter != 1


def test_unknown_configs_and_a_missing_folder(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="no config 'tiny.py'.*common/train.py"):
        model_zoo.get_config("tiny.py")
    monkeypatch.setattr(model_zoo, "CONFIGS", tmp_path)
    with pytest.raises(FileNotFoundError, match="install from a clone"):
        model_zoo.get_config("common/train.py")
