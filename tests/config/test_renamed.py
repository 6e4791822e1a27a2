"""Old config keys and call targets are refused with the name of their successor."""

import json
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from fsdbev.config import apply_overrides, load_config, read_config
from fsdbev.config.renamed import RENAMED_KEYS, RENAMED_TARGETS, check_renamed

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "configs/fsdbev_tiny_synthetic.py")


@pytest.mark.parametrize("key", RENAMED_KEYS)
def test_a_renamed_key_names_its_successor(key, tmp_path):
    cfg = OmegaConf.create({})
    OmegaConf.update(cfg, key if key.startswith("train") else f"dataloader.{key}", 1)
    path = tmp_path / "config.yaml"
    OmegaConf.save(cfg, path)
    with pytest.raises(ValueError, match=r"docs/renamed\.md.*--print-config") as error:
        load_config(str(path))
    assert RENAMED_KEYS[key] in str(error.value)


@pytest.mark.parametrize("key", RENAMED_KEYS)
def test_an_override_of_a_renamed_key_names_its_successor(key):
    place = key if key.startswith("train") else f"dataloader.{key}"
    with pytest.raises(ValueError, match="unknown key") as error:
        apply_overrides(read_config(TINY), [f"{place}=1"])
    assert RENAMED_KEYS[key] in str(error.value)


@pytest.mark.parametrize("module", RENAMED_TARGETS)
def test_a_moved_target_names_its_successor(module, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"parts": [{"_target_": f"{module}.Thing"}]}))
    with pytest.raises(ValueError, match=r"parts\.0\._target_: .* in 0\.2") as error:
        load_config(str(path))
    assert f"{RENAMED_TARGETS[module]}.Thing" in str(error.value)


def test_successors_exist_and_old_names_do_not():
    for old, new in RENAMED_TARGETS.items():
        assert get_object(new)
        assert not (ROOT / f"{old.replace('.', '/')}.py").exists()


def test_configs_of_today_are_not_refused():
    for path in ROOT.glob("configs/*.py"):
        check_renamed(read_config(str(path)))
