"""docs/detectron2.md: its examples are short, run in order, and have the effects that it names."""

import copy
import json
import re
import sys
import types
from pathlib import Path

import pytest
import torch

from fsdbev.checkpoint import load_weights
from fsdbev.config import complete_config, load_config
from fsdbev.d2 import BACKEND
from fsdbev.d2.config import LazyCall as L, instantiate
from fsdbev.engine.lazy_builders import build_optimizer
from fsdbev.engine.main import find_trainer
from fsdbev.inference.model_builder import build_model
from fsdbev.modeling import PART_REGISTRY, CenterHead

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "fsdbev_tiny_synthetic.py")
PAGE = (ROOT / "docs" / "detectron2.md").read_text(encoding="utf-8")
_EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
#: Title of a section, "" for the introduction -> its Python examples.
EXAMPLES = {
    text.partition("\n")[0] if number else "": _EXAMPLE.findall(text)
    for number, text in enumerate(re.split(r"^## ", PAGE, flags=re.M))
}
MAX_LINES = 10
SEED = 0


def make_smaller(names):
    """Changes values of the page's config that cost time."""
    names["dataloader"].image_size = [32, 96]
    for loader in (names["dataloader"].train, names["dataloader"].test):
        loader.num_workers = 0
    names["model"].grid.cell = 7.0
    names["train"].merge_with({"device": "cpu", "log_period": 1, "report": {"enabled": False}})


@pytest.fixture(scope="module")
def page(synthetic_root, tmp_path_factory):
    """All examples, run in the module ``my_parts``: its names, and the config after each section.

    The config after ``section`` is ``names["configs"][section]``.
    """
    folder = tmp_path_factory.mktemp("page")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "output" / "quickstart").mkdir(parents=True)
    (folder / "output" / "quickstart" / "data").symlink_to(synthetic_root)
    module, configs = types.ModuleType("my_parts"), {}
    names = vars(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(sys.modules, "my_parts", module)
        patch.setattr(PART_REGISTRY, "_obj_map", dict(PART_REGISTRY._obj_map))
        for section, examples in EXAMPLES.items():
            for code in examples:
                torch.manual_seed(SEED)
                exec(compile(code, f"docs/detectron2.md, {section}", "exec"), names)
            if not section:
                make_smaller(names)
            configs[section] = copy.deepcopy(names["cfg"])
        yield names | {"configs": configs}


def test_each_section_has_one_example_of_at_most_ten_lines():
    without = {section for section, examples in EXAMPLES.items() if len(examples) != 1}
    assert without == {"What is the same", "What differs"} and len(EXAMPLES) >= 12
    for section, examples in EXAMPLES.items():
        lines = [line for code in examples for line in code.splitlines() if line.strip()]
        assert len(lines) <= MAX_LINES, section


def test_hook_schedule_and_evaluators_take_part_in_the_training(page):
    assert {"nuscenes", "boxes"} == page["metrics"].keys()
    assert page["metrics"]["boxes"]["count"] >= 0
    lines = [json.loads(line) for line in Path("output/metrics.json").read_text().splitlines()]
    iterations = [line for line in lines if "weight_norm" in line]
    assert [line["iteration"] for line in iterations] == [0, 1]
    assert all(line["lr"] == page["cfg"].optimizer.lr for line in iterations)  # no warm-up


def test_the_mapper_blacks_out_one_camera(page):
    loader = instantiate(complete_config(page["configs"]["A training"]).dataloader.train)
    assert len(loader.dataset.mapper.mapper.augmentations) == 1
    images = next(iter(loader))[0]["images"]
    black = (images == 0).flatten(2).all(dim=2)  # (T, N)
    assert black.sum(dim=1).tolist() == [1] * len(images) and torch.equal(black[0], black[1])


def test_the_neck_takes_the_channels_of_the_backbone(page):
    model = instantiate(complete_config(page["configs"]["A backbone"]).model)
    assert isinstance(model.backbone, page["PatchBackbone"])
    assert [conv.in_channels for conv in model.neck.lateral_convs] == [16] * 4


def test_the_head_of_the_command_line_is_that_of_the_config(page):
    overrides = ["train.plugins=[my_parts]", "model.head.name=WeightedHead"]
    cfg = load_config(TINY, [*overrides, "model.head.loss_weight=2.0"])
    heads = [instantiate(config.model).head for config in (cfg, page["cfg"])]
    assert all(isinstance(head, page["WeightedHead"]) for head in heads)
    assert [head.loss_weight for head in heads] == [2.0, 2.0]
    back = load_config("output/config.yaml", [overrides[0], "model.head.name=CenterHead"])
    assert "loss_weight" not in back.model.head
    assert type(instantiate(back.model).head) is CenterHead


def test_frozen_stages_keep_weights_and_statistics(page):
    torch.manual_seed(SEED)
    model = build_model(page["cfg"])
    load_weights(model, page["cfg"].train.init_checkpoint, strict=False)
    initial = model.backbone.state_dict()
    trained = page["trainer"].model.backbone.state_dict()
    kept = {name for name in trained if torch.equal(trained[name], initial[name])}
    assert kept == {name for name in trained if name.split(".")[0] in ("conv1", "bn1", "layer1")}
    assert "layer1.0.bn1.running_mean" in kept and "layer2.0.bn1.running_mean" not in kept


def test_the_backbone_has_another_learning_rate(page):
    trainer = page["trainer"]
    assert type(trainer) is page["MyTrainer"] is find_trainer(page["cfg"])
    others, backbone = trainer.optimizer.param_groups
    assert [others["lr"], backbone["lr"]] == [4e-3, pytest.approx(4e-4)]
    trainable = [p for p in trainer.model.parameters() if p.requires_grad]
    assert len(others["params"]) + len(backbone["params"]) == len(trainable)
    assert len(backbone["params"]) < len(list(trainer.model.backbone.parameters()))


@pytest.mark.skipif(BACKEND == "builtin", reason="the built-in replacement does not have it")
def test_default_optimizer_params_of_detectron2(page):
    from detectron2.solver import get_default_optimizer_params

    cfg = copy.deepcopy(page["cfg"])
    cfg.optimizer.params = L(get_default_optimizer_params)(
        base_lr="${optimizer.lr}", weight_decay_norm=0.0
    )
    groups = build_optimizer(cfg.optimizer, page["trainer"].model).param_groups
    assert {group["weight_decay"] for group in groups} == {0.0, cfg.optimizer.weight_decay}
    assert {group["lr"] for group in groups} == {cfg.optimizer.lr}
