"""YAML configs are data of strangers: what they may hold and call."""

import os
from pathlib import Path

import pytest
import torch
import yaml

from fsdbev.d2.config import instantiate
from fsdbev.engine import load_config
from fsdbev.engine.config_yaml import MOST_BYTES, check_targets, read_yaml_config
from fsdbev.engine.config import config_text

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    [*ROOT.glob("configs/*.py"), *ROOT.glob("configs/ablations/*.py")]
    + [*ROOT.glob("projects/*/configs/*.py")]
)


#: Each line refers to the one before ten times.
LAUGHS = "a0: [1]\n" + "".join(f"a{i + 1}: {[f'${{a{i}}}'] * 10}\n" for i in range(30))


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "config.yaml").write_text(text)
        return str(tmp_path / "config.yaml")

    return write


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_ours_survives_as_yaml(path, write):
    cfg = load_config(str(path))
    text = config_text(cfg)
    saved = load_config(write(text))
    assert config_text(saved) == text


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "importlib.import_module",
        "functools.partial",
        "torch.load",
        "torch.hub.load",
        "torch.os.system",
        "torch.nn.modules.module.functools.partial",
        "torch.optim.adamw._dispatch_sqrt",
        "fsdbev.engine.launch.launch",
        "fsdbev.engine.launch.os.system",
        "fsdbev.engine.plugins.load_plugins",
        "fsdbev.d2.config.instantiate",
        "fsdbev.d2._builtin.config._run",
        "fsdbev.modeling.registry.inspect.os.system",
        "fsdbev.modeling.registry.Callable",
        "fsdbev.modeling.registry.__builtins__",
        "fsdbev.modeling.registry.build_part.__globals__",
        "fsdbev.modeling.registry",
        "fsdbev.modeling.nothing",
        "fsdbev.data.build.DataLoader",
        "fsdbev.modelingX.evil",
        "projects.os.system",
        "hydra.utils.instantiate",
        "hydra.utils.call",
        "fsdbev.modeling.registry.build_part\n",
        "",
    ],
)
@pytest.mark.parametrize("looked_up", [False, True])
def test_what_a_yaml_config_may_not_call(write, target, looked_up):
    call = {"_target_": target, "command": "touch ran"}
    if looked_up:
        call = {"_target_": "hydra.utils.get_object", "path": target}
    path = write(yaml.safe_dump({"model": {"parts": [{"deep": call}]}}))
    with pytest.raises(ValueError, match=r"model\.parts\.0\.deep\.(_target_|path)") as error:
        load_config(path)
    assert repr(target) in str(error.value) and "train.plugins" in str(error.value)


@pytest.mark.parametrize("target", [{"_target_": "builtins.str"}, ["os.system"], 3, None])
def test_target_is_text(write, target):
    with pytest.raises(ValueError, match="may call|_target_"):
        load_config(write(yaml.safe_dump({"model": {"_target_": target}})))


@pytest.mark.parametrize("target", ["torch.nn.Linear", "torch.optim.AdamW", "torch.nn.GELU"])
def test_what_it_may_call(write, target):
    load_config(write(yaml.safe_dump({"part": {"_target_": target}})))


def test_types_of_numbers_and_classes_are_looked_up(write):
    text = "a: {_target_: hydra.utils.get_object, path: torch.bfloat16}"
    assert instantiate(load_config(write(text)).a) is torch.bfloat16


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}",
        "${oc.env:HOME,x}",
        "${oc.decode:${b}}",
        "${a.${b}}",
        "$${b}",
        "\\${oc.env:HOME}",
        "${any: thing}",
        "${b",
        "x${b}" * 300,
    ],
)
def test_resolvers_and_mixtures_are_refused(write, value):
    with pytest.raises(ValueError, match=r"config\.yaml: a\.0: .*resolvers are off"):
        load_config(write(yaml.safe_dump({"a": [value], "b": "{oc.env:HOME}"})))


def test_reference_stays(write):
    cfg = load_config(write("a: {b: 3}\nc: ${a.b}\nd: {e: '${..a.b}'}"))
    assert cfg.c == cfg.d.e == 3


def test_references_inside_a_text_are_to_plain_values(write):
    cfg = load_config(write("a: {b: 3, c: 'x/${.b}/${a.b}'}"))
    assert cfg.a.c == "x/3/3"
    for other in ("'${a.b}'", "[1]", f"'{'x' * 1001}'", "'y${a.b}'"):
        with pytest.raises(ValueError, match="d is no short plain value"):
            load_config(write(f"a: {{b: 3, c: 'x/${{d}}'}}\nd: {other}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", "line 2: a config has no aliases"),
        ("a: &x [*x]", "no aliases"),
        ("a: !!python/object/apply:os.system ['touch ran']", "python/object"),
        ("a: !!python/name:os.system", "python/name"),
        ("a: !own x", "!own"),
        ("a: 1\na: 2", "'a' is there twice"),
        ("{[1]: 2}", "a key is text|unhashable"),
        ("<<: {a: 1}", "merge"),
        ("a: 2020-01-01", "a date is no value"),
        ("a: !!binary aGk=", "a bytes is no value"),
        ("a: !!set {x}", "a set is no value"),
        ("a: ${b}\nb: ${a}", "refers to itself"),
        ("a: {b: '${a}'}", "refers to itself"),
        ("a: [1, '${.}']", "refers to itself|resolvers are off"),
        (LAUGHS, "references stand for more than 100000 values"),
        ("[1]", "a config is a mapping"),
        ("a: [", "line 1"),
        ("\x00", "."),
        ("[" * 5000, "."),
        ("'${oc.env:HOME}': 1", "holds a reference"),
        ("a: {_target_: '${b}'}\nb: os.system", "holds a reference"),
        ("a: {_target_: hydra.utils.get_object, path: '${b}'}\nb: os.system", "a reference"),
        ("train: {plugins: [code_of_the_attacker]}", "train.plugins: 'code_of_the_attacker'"),
        ("train: {plugins: code_of_the_attacker}", "train.plugins: 'code_of_the_attacker'"),
        ("train: {plugins: [projects.LSS, projectsX]}", "train.plugins: 'projectsX'"),
        ("train: {plugins: '${b}'}\nb: [code_of_the_attacker]", r"train.plugins: '\$\{b\}'"),
        ("train: {plugins: ['${b}']}\nb: code_of_the_attacker", r"train.plugins: '\$\{b\}'"),
        ("train: ${b}\nb: {plugins: [code_of_the_attacker]}", r"train: '\$\{b\}' is no mapping"),
    ],
)
def test_no_other_way_in(write, tmp_path, monkeypatch, text, message):
    (tmp_path / "code_of_the_attacker.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_config(write(text))
    assert not os.path.exists("ran")


def test_size_has_a_limit(write):
    with pytest.raises(ValueError, match="at most"):
        load_config(write(f"a: '{'x' * MOST_BYTES}'"))
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        load_config("none.yaml")


def test_plugin_of_the_command_line_is_trusted(write, tmp_path, monkeypatch):
    (tmp_path / "my_trusted_plugin.py").write_text("def part(): return 5")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write("train: {plugins: []}\npart: {_target_: my_trusted_plugin.part}")
    with pytest.raises(ValueError, match=r"part\._target_.*train.plugins=\[MODULE\]"):
        load_config(path)
    assert instantiate(load_config(path, ["train.plugins=[my_trusted_plugin]"]).part) == 5


def test_nothing_is_imported_before_it_is_allowed(write, tmp_path, monkeypatch):
    (tmp_path / "code_of_the_attacker.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = read_yaml_config(write("a: {_target_: code_of_the_attacker.x}"))
    with pytest.raises(ValueError, match="may call"):
        check_targets(cfg)
    assert not os.path.exists("ran")
