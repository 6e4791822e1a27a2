"""Configs and released models for users and other projects."""

import logging
import re
from pathlib import Path

import pytest
import torch
from made_zoo import write_model

from fsdbev import Predictor, model_zoo
from fsdbev.checkpoint import TrainingCheckpointer, load_weights, read_weights
from fsdbev.checkpoint.weights import compare
from fsdbev.config import load_config
from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.engine.main import evaluate_only
from fsdbev.utils import model_cards
from fsdbev.utils.model_cards import checked_weights, model_names, read_card

MODEL_ZOO = Path(__file__).resolve().parents[1] / "MODEL_ZOO.md"
TINY = "fsdbev_tiny_synthetic.py"


@pytest.fixture(scope="module")
def source():
    """A tiny model with random weights."""
    torch.manual_seed(0)
    return instantiate(model_zoo.get_config(TINY).model)


@pytest.fixture
def zoo(source, tmp_path, monkeypatch):
    """Folder of released models: a detector, and the backbone and neck of the same model."""
    weights = source.state_dict()
    write_model(tmp_path, "fsdbev_street", weights)
    parts = ("backbone.", "neck.")
    write_model(tmp_path, "street", {k: v for k, v in weights.items() if k.startswith(parts)})
    monkeypatch.setattr(model_cards, "WEIGHTS", tmp_path)
    return tmp_path


def assert_half(model, source):
    """Checks that a model has float32 weights that were stored in half precision."""
    for name, value in source.state_dict().items():
        expected = value.half().float() if value.ndim > 1 else value
        assert torch.equal(model.state_dict()[name], expected), name


def test_config_by_its_path():
    cfg = model_zoo.get_config("fsdbev_tiny_synthetic.py")
    assert cfg == LazyConfig.load(str(model_zoo.CONFIGS / "fsdbev_tiny_synthetic.py"))
    assert model_zoo.get_config("common/train.py").train.plugins == []
    train, sizes = model_zoo.get_config("common/tiny_synthetic.py", ("train", "sizes"))
    assert train.max_iter == 1000 and sizes.backbone.depth == 18


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


def test_a_released_model_by_its_name(zoo, source):
    model = model_zoo.get("fsdbev_street", device="cpu")
    assert not model.training and next(model.parameters()).device.type == "cpu"
    assert_half(model, source)
    assert model_zoo.get_config("fsdbev_street") == model_zoo.get_config(TINY)


def test_a_zoo_path_is_a_checkpoint(zoo, source, tmp_path):
    """For a predictor, an evaluation and a checkpointer, also on the command line."""
    config = str(model_zoo.CONFIGS / TINY)
    cfg = load_config(config, ["train.init_checkpoint=zoo://fsdbev_street", "train.device=cpu"])
    assert cfg.train.init_checkpoint == "zoo://fsdbev_street"
    assert_half(
        Predictor(config, "zoo://fsdbev_street", overrides=["train.device=cpu"]).model, source
    )
    cfg.train.init_checkpoint = "zoo://street"
    with pytest.raises(ValueError, match="It has only backbone, neck: a training can start from"):
        evaluate_only(cfg, last=False)
    model = instantiate(cfg.model)
    TrainingCheckpointer(model, str(tmp_path)).resume_or_load("zoo://fsdbev_street")
    assert_half(model, source)


def test_a_training_starts_from_the_parts_in_a_file(zoo, source, caplog):
    model = instantiate(model_zoo.get_config(TINY).model)
    before = model.head.shared_conv.conv.weight.clone()
    with caplog.at_level(logging.INFO, logger="fsdbev.checkpoint"):
        load_weights(model, "zoo://street", strict=False)
    assert_half(model.backbone, source.backbone)
    assert torch.equal(model.head.shared_conv.conv.weight, before)
    assert "Parts from the file: backbone, neck. Anew: msfe, depth_net, " in caplog.text
    assert all(record.levelno == logging.INFO for record in caplog.records)


def test_models_that_do_not_exist(zoo, monkeypatch, tmp_path):
    unknown = "no released model 'fsdbev'; .* has fsdbev_street, street"
    for call in (model_zoo.get, lambda name: read_weights(f"zoo://{name}"), read_card):
        with pytest.raises(FileNotFoundError, match=unknown):
            call("fsdbev")
    (zoo / "street.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"street.safetensors: no such file; .*git check"):
        read_weights("zoo://street")
    monkeypatch.setattr(model_cards, "WEIGHTS", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no released models in .*install from a clone"):
        model_zoo.get("fsdbev_street")


def test_a_file_that_is_not_that_of_its_card(zoo):
    (zoo / "street.safetensors").write_bytes((zoo / "fsdbev_street.safetensors").read_bytes())
    with pytest.raises(ValueError, match="street.safetensors is not the file of its .*git checkou"):
        read_weights("zoo://street")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": None}, "sha256 is missing; a model card has the keys about, config"),
        ({"metric": {}}, "unknown key 'metric'; a model card has the keys about, config"),
        ({"hours": 3}, "hours must be text, got 3"),
    ],
)
def test_malformed_cards(zoo, changes, message):
    write_model(zoo, "bad", {"a": torch.zeros(1)}, **changes)
    with pytest.raises(ValueError, match=rf"bad\.yaml: .*{message}"):
        read_card("bad")


@pytest.mark.parametrize("name", model_names())
def test_the_released_file_fits_its_config(name):
    """The released parts are complete, and every weight is in the model of the card's config."""
    weights = read_weights(str(checked_weights(name))).tensors
    with torch.device("meta"):
        own = instantiate(model_zoo.get_config(name).model).state_dict()
    report = compare(weights, own)
    _, absent = report.parts()
    assert report.problems(without=absent) == []
    if not absent:
        assert not model_zoo.get(name, device="cpu").training


def test_the_page_lists_the_released_models():
    section = MODEL_ZOO.read_text(encoding="utf-8").partition("## Weights of this repository\n")[2]
    rows = re.findall(r"^\| `.*$", section.partition("\n## ")[0], re.M)
    assert rows == [row_of(name) for name in model_names()]


def test_the_code_of_the_page_runs(zoo, source):
    (code,) = re.findall(r"```python\n(.*?)```", MODEL_ZOO.read_text(encoding="utf-8"), re.S)
    names = {}
    exec(compile(code, "MODEL_ZOO.md", "exec"), names)
    assert_half(names["predictor"].model.cpu(), source)


def row_of(name):
    """Returns the row of a released model in MODEL_ZOO.md."""
    card, size = read_card(name), checked_weights(name).stat().st_size / 1e6
    metrics = ", ".join(f"{key} {value:g}" for key, value in card.metrics.items()) or "-"
    cells = (f"`{name}`", card.about, f"`configs/{card.config}`", f"{size:.1f} MB", card.hours)
    return f"| {' | '.join(cells)} | {metrics} |"
