"""Lazy configs: load, save, override, instantiate. Runs on the built-in and on Detectron2."""

import ast
import builtins
import logging
import sys
from datetime import timedelta
from fractions import Fraction

import pytest
import torch
import yaml
from omegaconf import DictConfig, ListConfig
from torch import nn

from fsdbev.d2 import BACKEND
from fsdbev.d2.config import LazyCall as L, LazyConfig, instantiate
from fsdbev.structures import BEVGrid

only_builtin = pytest.mark.skipif(BACKEND != "builtin", reason="differs in Detectron2")

COMMON = """
from fractions import Fraction
from fsdbev.d2.config import LazyCall as L

settings = dict(steps=3, nested=dict(widths=[1, 2]))
call = L(Fraction)(numerator=1, denominator="${..settings.steps}")
"""
LEAF = """
from .common.base import call, settings
from .common.base import settings as again

settings.steps = 4
model = L = call
plain = {"a": 1}
numbers = [1, 2]
_hidden = {"a": 1}
same = settings is again
def function():
    from .common.base import settings
    return settings.steps
late = dict(steps=function())
"""
DEEP = """
from ..common.base import settings
from ..leaf import model
settings.nested.widths.append(3)
"""


def collect(**arguments):
    return arguments


@pytest.fixture
def configs(tmp_path):
    """A folder with config files that import each other; the folders are no packages."""
    for name, text in {"common/base": COMMON, "leaf": LEAF, "deep/er": DEEP}.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def write(folder, text, name="config.py"):
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_call_is_a_node_that_can_be_edited():
    node = L(nn.Linear)(in_features=2, out_features=3)
    assert isinstance(node, DictConfig) and node._target_ is nn.Linear
    node.out_features = 5
    node.bias = False
    layer = instantiate(node)
    assert (layer.in_features, layer.out_features, layer.bias) == (2, 5, None)
    assert instantiate(node) is not layer


@pytest.mark.parametrize(
    ("target", "arguments", "result"),
    [
        (Fraction, {"numerator": 3, "denominator": 6}, Fraction(1, 2)),
        (Fraction.from_float, {"f": 0.5}, Fraction(1, 2)),
        ("fractions.Fraction", {"numerator": 2}, Fraction(2)),
        ("fractions.Fraction.from_float", {"f": 0.25}, Fraction(1, 4)),
        (BEVGrid, {"cell": 0.4}, BEVGrid(cell=0.4)),
        (collect, {}, {}),
        (lambda x: x + 1, {"x": 1}, 2),
    ],
)
def test_targets(target, arguments, result):
    assert instantiate(L(target)(**arguments)) == result


def test_a_target_must_be_callable():
    for target in (3, None):
        with pytest.raises(TypeError):
            L(target)


def test_arguments_are_instantiated_first():
    """A callable receives omegaconf's lists and mappings; mappings are not searched for calls."""
    inner = L(Fraction)(numerator=1, denominator=2)
    result = instantiate(
        L(collect)(several=[inner, 3], deep=L(collect)(one=inner), mapping={"inner": inner})
    )
    half = Fraction(1, 2)
    assert result["several"] == [half, 3] and result["deep"] == {"one": half}
    assert isinstance(result["several"], ListConfig) and isinstance(result["mapping"], DictConfig)
    assert result["mapping"].inner._target_ is Fraction


@pytest.mark.parametrize("value", [3, "text", None, {"a": 1}])
def test_values_are_returned_as_they_are(value):
    assert instantiate(value) == value
    assert instantiate([L(Fraction)(numerator=1), value]) == [Fraction(1), value]


def test_errors_of_a_call_are_raised_again(caplog):
    with pytest.raises(TypeError, match="wrong"), caplog.at_level(logging.ERROR):
        instantiate(L(nn.Linear)(in_features=1, out_features=1, wrong=1))
    assert "Linear" in caplog.text


@only_builtin
def test_errors_name_the_place_in_the_config(caplog):
    cfg = DictConfig({"model": L(collect)(parts=[1, L(nn.Linear)(in_features=-1, wrong=2)])})
    cfg._set_flag("allow_objects", True)
    with pytest.raises(TypeError):
        instantiate(cfg.model)
    assert caplog.messages == [
        "model.parts[1]._target_: calling <class 'torch.nn.modules.linear.Linear'> failed"
    ]


@only_builtin
@pytest.mark.parametrize("name", ["torch.nn.NoSuchLayer", "no_such_package.Layer"])
def test_a_target_that_cannot_be_imported(name, caplog):
    with pytest.raises(ImportError, match=name.split(".")[-2]):
        instantiate({"_target_": name})
    assert name in caplog.text


def test_load_returns_the_configs_of_a_file(configs):
    before = builtins.__import__
    cfg = LazyConfig.load(str(configs / "leaf.py"))
    assert isinstance(cfg, DictConfig) and builtins.__import__ is before
    assert {"call", "settings", "model", "plain", "late"} <= set(cfg)
    assert not {"_hidden", "numbers", "function", "same"} & set(cfg)
    assert isinstance(cfg.plain, DictConfig)
    assert instantiate(cfg.model) == Fraction(1, 4)  # interpolates the leaf's settings
    path = str(configs / "leaf.py")
    assert isinstance(LazyConfig.load(path, "plain"), DictConfig)
    plain, numbers = LazyConfig.load(path, ("plain", "numbers"))
    assert plain == {"a": 1} and numbers == [1, 2]
    with pytest.raises(KeyError, match="nothing"):
        LazyConfig.load(path, "nothing")


def test_relative_imports_share_no_nodes(configs):
    leaf = LazyConfig.load(str(configs / "leaf.py"))
    assert LazyConfig.load(str(configs / "leaf.py"), "same") is False
    assert leaf.late.steps == 3  # an import in a function
    base = LazyConfig.load(str(configs / "common" / "base.py"))
    assert (leaf.settings.steps, base.settings.steps) == (4, 3)
    # imports from the parent folder
    cfg = LazyConfig.load(str(configs / "deep" / "er.py"))
    assert cfg.settings == {"steps": 3, "nested": {"widths": [1, 2, 3]}}
    assert set(cfg.model) == {"_target_", "numerator", "denominator"}


def test_paths_may_be_relative(configs, monkeypatch):
    monkeypatch.chdir(configs)
    assert LazyConfig.load("deep/er.py").settings.steps == 3
    assert LazyConfig.load("./leaf.py").settings.steps == 4
    if BACKEND == "builtin":  # Detectron2 cannot import from above the working directory
        monkeypatch.chdir(configs / "deep")
        assert LazyConfig.load("er.py").settings.steps == 3
    text = (
        "from fsdbev.d2.config import LazyConfig\nx = LazyConfig.load_rel('../leaf.py', 'plain')\n"
    )
    assert LazyConfig.load(write(configs / "deep", text)).x == {"a": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("from .nothing import x", "nothing.py"),
        ("from . import leaf", None),
        ("from .common import base", "common.py does not exist"),
        pytest.param(
            "from .common.base import nothing",
            "there is no 'nothing' in .*base.py",
            marks=only_builtin,
        ),
        pytest.param("from .common.base import *", "there is no '\\*' in", marks=only_builtin),
    ],
)
def test_relative_imports_name_config_files(configs, line, message):
    with pytest.raises(ImportError, match=message if BACKEND == "builtin" else None):
        LazyConfig.load(write(configs, line))


def test_errors_in_a_file(tmp_path):
    with pytest.raises(SyntaxError):
        LazyConfig.load(write(tmp_path, "a = ="))
    with pytest.raises(ValueError, match="json"):
        LazyConfig.load(write(tmp_path, "{}", "config.json"))


def saved(cfg, folder):
    path = str(folder / "saved.yaml")
    LazyConfig.save(cfg, path)
    return LazyConfig.load(path)


def test_a_saved_config_is_the_same_config(tmp_path):
    cfg = DictConfig(
        {
            "layer": L(nn.Linear)(in_features="${..train.width}", out_features=3),
            "grid": L(BEVGrid)(x_range=(-8.0, 8.0), y_range=(-8.0, 8.0), cell=0.5),
            "coarse": BEVGrid(cell=0.4),
            "calls": [L(Fraction.from_float)(f=0.5), L("fractions.Fraction")(numerator=1)],
            "train": {"width": 2, "lr": 1e-5, "name": "1", "none": None, "flag": True},
        },
        flags={"allow_objects": True},
    )
    again = saved(cfg, tmp_path)
    assert cfg.layer._target_ is nn.Linear  # the input is unchanged
    assert again.train == cfg.train
    assert type(again.train.lr) is float and type(again.train.name) is str
    assert isinstance(again.layer._target_, str)
    assert instantiate(again.layer).in_features == 2
    assert instantiate(again.grid) == instantiate(cfg.grid)
    assert instantiate(again.coarse) == BEVGrid(cell=0.4)
    assert list(instantiate(again.calls)) == [Fraction(1, 2), Fraction(1)]
    assert saved(again, tmp_path) == again


@only_builtin
def test_functions_and_types_as_arguments(tmp_path):
    cfg = L(collect)(function=nn.functional.relu, dtype=torch.float16, kind=nn.ReLU)
    cfg._target_ = "builtins.dict"
    result = instantiate(saved(cfg, tmp_path))
    assert result == {"function": nn.functional.relu, "dtype": torch.float16, "kind": nn.ReLU}
    cfg = DictConfig({"a": 1, "b": "${a}", "call": L(nn.ReLU)(inplace=True)})
    saved(cfg, tmp_path)
    values = yaml.safe_load((tmp_path / "saved.yaml").read_text())
    target = "torch.nn.modules.activation.ReLU"
    assert values == {"a": 1, "b": "${a}", "call": {"inplace": True, "_target_": target}}


@only_builtin
def test_objects_without_a_dotted_name_cannot_be_saved(tmp_path):
    cfg = DictConfig({"a": {"b": [1, L(lambda: 1)()]}}, flags={"allow_objects": True})
    with pytest.raises(ValueError, match=r"a\.b\.1\._target_: .*<lambda>.* cannot be imported"):
        saved(cfg, tmp_path)
    cfg = DictConfig({"a": timedelta(1)}, flags={"allow_objects": True})
    with pytest.raises(ValueError, match="a: .*timedelta.* cannot be imported"):
        saved(cfg, tmp_path)


def test_overrides_in_place():
    """Without checks, as in Detectron2: a new key is added, a type may change."""
    cfg = DictConfig({"a": {"b": 1, "c": [1, 2]}})
    assert LazyConfig.apply_overrides(cfg, ["a.b=2.5", "a.c=[3]", "a.d=text"]) is cfg
    assert cfg == {"a": {"b": 2.5, "c": [3], "d": "text"}}


@pytest.mark.parametrize(
    ("override", "error"),
    [("a.b.c=1", KeyError), ("a.b.c.d=1", KeyError), ("~a.b", NotImplementedError)],
)
def test_refused_overrides(override, error):
    cfg = DictConfig({"a": {"b": 1, "none": None}})
    with pytest.raises(error, match=r"a\.b" if error is KeyError else "delet"):
        LazyConfig.apply_overrides(cfg, [override])
    assert cfg == {"a": {"b": 1, "none": None}}
    LazyConfig.apply_overrides(cfg, ["a.none.c=2", "new.deep.key=3"])
    assert cfg.a.none.c == 2 and cfg.new.deep.key == 3


PY_CONFIG = {
    "train": {"steps": 3, "nested": {"name": "it's", "widths": [1, 2.5, None]}},
    "half": L(Fraction)(numerator=1, denominator=L(Fraction)(numerator="${train.steps}")),
    "call": L(Fraction)(options={"b": [True], "a": {"x": "y"}}),
}
PY_TEXT = """
cfg.call = fractions.Fraction(options={"a": {"x": "y"}, "b": [True]})
cfg.half = fractions.Fraction(denominator=fractions.Fraction(numerator=3), numerator=1)
cfg.train.nested.name = "it's"
cfg.train.nested.widths = [1, 2.5, None]
cfg.train.steps = 3
"""


def test_a_config_as_code():
    cfg = DictConfig(PY_CONFIG, flags={"allow_objects": True})
    text = LazyConfig.to_py(cfg)
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(PY_TEXT))
    assert LazyConfig.to_py(DictConfig({"a": 1}), prefix="config.") == "config.a = 1\n"


@only_builtin
def test_a_config_as_code_with_other_values(monkeypatch):
    cfg = DictConfig(
        {"call": L(collect)(kind=nn.ReLU, function=len), "empty": {}, "odd": object},
        flags={"allow_objects": True},
    )
    cfg.call._target_ = "module.collect"  # as in a loaded YAML file
    expected = (
        "cfg.call = module.collect(function=builtins.len, "
        "kind=torch.nn.modules.activation.ReLU)\n"
        "cfg.empty = {}\n"
        "cfg.odd = builtins.object\n"
    )
    assert LazyConfig.to_py(cfg) == expected
    monkeypatch.setitem(sys.modules, "black", None)  # not installed
    assert LazyConfig.to_py(cfg) == expected
    assert LazyConfig.to_py(cfg.call).startswith("cfg = module.collect(function=")
    assert LazyConfig.to_py(DictConfig({"a": timedelta(1)}, flags={"allow_objects": True}))
