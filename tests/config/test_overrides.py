"""Strict overrides: which values they may change, and the errors."""

import copy
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fsdbev.config.overrides import apply_overrides
from fsdbev.d2.config import LazyCall as L, instantiate


@pytest.fixture
def cfg():
    content = {
        "train": {
            "steps": 10,
            "lr": 0.5,
            "amp": False,
            "output_dir": "./output",
            "seed": None,
            "device": "???",
            "dtype": torch.float16,
            "same": "${train.steps}",
            "alias": "${optimizer}",
            "broken": "${train.nothing}",
        },
        "optimizer": {"betas": [0.9, 0.99], "groups": [{"lr": 1}, {"lr": 2}], "empty": {}},
        "sizes": [256, 704],
        "mixed": [1, 2.0, "a"],
        "nested": [[0.5], [1, 2.0]],
        "calls": [L(nn.Dropout)(p=0.5)],
        "anything": [],
        "model": L(nn.Linear)(in_features=2, out_features=3, bias=L(bool)()),
    }
    cfg = DictConfig(content, flags={"allow_objects": True})
    cfg.train.merge_with({"lr": 0.5})  # sets flags on the node that its parent does not have
    return cfg


def refused(cfg, override):
    """Returns the message of the error of an override."""
    with pytest.raises(ValueError) as error:
        apply_overrides(cfg, [override])
    assert str(error.value).startswith(f"override {override!r}: ")
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.steps=20", 20),
        ("train.steps=-1", -1),
        ("train.lr=1e-4", 1e-4),
        ("train.lr=1", 1.0),
        ("train.amp=true", True),
        ("train.output_dir=/data/a-b_c.d/v1.0", "/data/a-b_c.d/v1.0"),
        ("train.output_dir='with = and, []'", "with = and, []"),
        ('train.output_dir="12"', "12"),
        ("train.output_dir=", ""),
        ("train.output_dir=/data/数据", "/data/数据"),
        ("train.output_dir=输出", "输出"),
        ("train.output_dir=/data/nu(1)", "/data/nu(1)"),
        ("train.output_dir=/data/a,b", "/data/a,b"),
        ("train.output_dir=/a'b=[c] {d}#!", "/a'b=[c] {d}#!"),
        ("train.output_dir=~/x", f"{Path.home()}/x"),
        ('train.output_dir="~/x"', "~/x"),
        ("train.seed=/data/nu(1)", "/data/nu(1)"),
        ("train.device=/dev/ü", "/dev/ü"),
        ('anything=["/nu(1)"]', ["/nu(1)"]),
        ("train.seed=3", 3),
        ("train.seed=[1,{a:b}]", [1, {"a": "b"}]),
        ("train.seed=null", None),
        ("train.device=cuda:0", "cuda:0"),
        ("train.same=7", 7),
        ("optimizer.betas=[1,0.5,0.1]", [1.0, 0.5, 0.1]),
        ("optimizer.betas.1=1", 1.0),
        ("optimizer.groups.1.lr=5", 5),
        ("optimizer.groups=[]", []),
        ("optimizer.groups=[{lr: 7},{}]", [{"lr": 7}, {}]),
        ("optimizer=null", None),
        ("sizes=[]", []),
        ("mixed=[b,1,0.5]", ["b", 1, 0.5]),
        ("nested=[[1],[],[2,3]]", [[1], [], [2, 3]]),
        ("anything=[1,a]", [1, "a"]),
        ("model.in_features=9", 9),
        ("model.bias=null", None),
        ("model=null", None),
    ],
)
def test_accepted(cfg, override, value):
    changed = apply_overrides(cfg, [override])
    result = OmegaConf.select(changed, override.split("=")[0])
    assert result == value and type(result) is type(OmegaConf.create([value])[0])


def test_the_input_is_unchanged(cfg):
    before = copy.deepcopy(cfg)
    apply_overrides(cfg, ["train.steps=20", "sizes.0=1", "model=null", "optimizer.groups.0.lr=7"])
    assert cfg == before


def test_they_apply_in_order(cfg):
    changed = apply_overrides(cfg, ["train.seed=1", "train.seed=2", "train.lr=2"])
    assert (changed.train.seed, changed.train.lr) == (2, 2.0)
    assert apply_overrides(cfg, []) == cfg
    assert apply_overrides(cfg, ["train.steps=77"]).train.same == 77  # an interpolation


def test_a_mapping_sets_only_its_keys(cfg):
    changed = apply_overrides(cfg, ["train={steps: 20, lr: 1}", "model={out_features: 7}"])
    assert (changed.train.steps, changed.train.lr, changed.train.amp) == (20, 1.0, False)
    layer = instantiate(changed.model)
    assert (layer.in_features, layer.out_features) == (2, 7)


@pytest.mark.parametrize(
    ("override", "unknown", "nearest"),
    [
        ("train.step=1", "train.step", "train.steps"),
        ("modle.in_features=1", "modle.in_features", "model.in_features"),
        ("model.in_feature.x=1", "model.in_feature.x", "model.in_features"),
        ("optimizer.groups.0.rl=1", "optimizer.groups.0.rl", "optimizer.groups.0.lr"),
        ("optimizer.empty.a=1", "optimizer.empty.a", "optimizer.empty"),
        ("train={output-dir: x}", "train.output-dir", "train.output_dir"),
        ("train.steps.x=1", "train.steps.x", "train.steps"),
        ("train.seed.x=1", "train.seed.x", "train.seed"),
        ("train.device.x=1", "train.device.x", "train.device"),
        ("sizes.2=1", "sizes.2", "sizes.1"),
        ("train.out_dir=/nu(1)", "train.out_dir", "train.output_dir"),
        ("sizes.first=1", "sizes.first", "sizes.1"),
        ("train.alias.betas=[1]", "train.alias.betas", "train.alias"),
        ("train.alias={betas: [1]}", "train.alias.betas", "train.alias"),
    ],
)
def test_an_unknown_key_gets_the_nearest(cfg, override, unknown, nearest):
    message = refused(cfg, override)
    assert f"unknown key {unknown!r}" in message and f"nearest key is {nearest!r}" in message


@pytest.mark.parametrize(
    ("override", "expected", "got"),
    [
        ("train.steps=1.0", "int", "1.0 (float)"),
        ("train.steps=ten", "int", "'ten' (str)"),
        ("train.steps=true", "int", "True (bool)"),
        ("train.steps=null", "int", "None (NoneType)"),
        ("train.steps=[1]", "int", "[1] (list)"),
        ("train.steps={a: 1}", "int", "{'a': 1} (dict)"),
        ("train.lr=fast", "float", "'fast' (str)"),
        ("train.lr=true", "float", "True (bool)"),
        ("train.amp=1", "bool", "1 (int)"),
        ("train.steps=1(2)", "int", "'1(2)' (str)"),
        ("train.output_dir=12", "str (as '\"12\"')", "12 (int)"),
        ("train.output_dir=null", "str (as '\"12\"')", "None (NoneType)"),
        ("sizes=256", "list [a,b]", "256 (int)"),
        ("sizes=null", "list [a,b]", "None (NoneType)"),
        ("sizes=/a,b", "list [a,b]", "'/a,b' (str)"),
        ("sizes=[256,wide]", "int", "'wide' (str)"),
        ("sizes.0=a", "int", "'a' (str)"),
        ("mixed=[true]", "float or int or str (as '\"12\"')", "True (bool)"),
        ("nested=[[1],[a]]", "float or int", "'a' (str)"),
        ("optimizer=3", "null or {key: value}", "3 (int)"),
        ("model=[1]", "null or {key: value}", "[1] (list)"),
        ("optimizer.groups=[1]", "null or {key: value}", "1 (int)"),
        ("calls=[{p: 1.0}]", "null or {key: value}", "{'p': 1.0} (dict)"),
        ("train.dtype=float32", "dtype", "'float32' (str)"),
        ("train.same=a", "int", "'a' (str)"),
    ],
)
def test_a_value_of_the_wrong_type(cfg, override, expected, got):
    place = override.partition("=")[0]
    assert refused(cfg, override).endswith(f": {place} takes {expected}, got {got}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.groups=[{rl: 1}]", "optimizer.groups have the keys lr, got 'rl'"),
        ("optimizer.groups=[{lr: a}]", "optimizer.groups.lr takes int, got 'a' (str)"),
    ],
)
def test_a_mapping_in_a_list_has_the_keys_and_types_of_the_old_ones(cfg, override, message):
    assert refused(cfg, override).endswith(message)


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=os.system",
        "model._target_.x=1",
        "model={_target_: os.system}",
        "train={seed: {_target_: os.system}}",
        "train.seed={_target_: os.system}",
        "train.seed=[1, {a: [{_target_: os.system}]}]",
        "anything=[{_target_: os.system}]",
        "train._target_=x",
    ],
)
def test_targets_cannot_be_touched(cfg, override):
    assert "_target_ cannot be set on the command line" in refused(cfg, override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+train.more=1", "not an added or deleted key"),
        ("++train.steps=1", "not an added or deleted key"),
        ("+train.output_dir=/nu(1)", "not an added or deleted key"),
        ("sizes.-1=/nu(1)", "token recognition error"),
        ("~train.steps", "not an added or deleted key"),
        ("train@x=1", "must be one key=value"),
        ("train.steps=1,2", "a list is 'key=[a,b]'"),
        ("train.seed=a,b", "a list is 'key=[a,b]'"),
        ("train.output_dir=a,b", "key=value, or 'key=\"a,b\"'; a list is"),
        ("train.output_dir='a','b'", "key=value, or 'key=\"a,b\"'; a list is"),
        ("anything=[/nu(1)]", "key=value, or 'key=\"a,b\"'; "),
        ("train.output_dir=/nu(1)/${train.steps}", "${ cannot be set on the command line"),
        ("train.steps", "must read key=value"),
        ("train.steps=[1", "must read key=value"),
        ("", "must read key=value"),
        ("--resume", "must read key=value"),
        ("train.output_dir=${train.steps}", "${ cannot be set on the command line"),
        ("anything=['${train.steps}']", "${ cannot be set on the command line"),
        ("train.device=???", "??? cannot be set on the command line"),
        ("train.broken=1", "train.nothing"),
    ],
)
def test_refused(cfg, override, message):
    assert message in refused(cfg, override)
