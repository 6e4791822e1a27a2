"""YAML configs are untrusted data: which values they may contain and which names they may call."""

import json
import os

import pytest
import torch

from fsdbev.config import load_config
from fsdbev.config.loading import resolved
from fsdbev.config.yaml_file import MAX_BYTES, MAX_VALUES, check_targets, read_yaml_config
from fsdbev.d2.config import instantiate

#: Each line contains the previous line ten times (the "billion laughs" attack).
LAUGHS = "a0: &a0 [1]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(30)
)


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "config.yaml").write_text(text)
        return str(tmp_path / "config.yaml")

    return write


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
        "torch.optim.lr_scheduler.LRScheduler.load_state_dict",
        "torch.nn.modules.module.OrderedDict.pop",
        "torch.Tensor.add",
        "detectron2.modeling.mmdet_wrapper.MMDetBackbone",
        "fsdbev.inference.model_builder.build_model",
        "fsdbev.engine.lazy_builders.build_optimizer",
        "fsdbev.engine.launch.launch",
        "fsdbev.engine.launch.os.system",
        "fsdbev.config.plugins.load_plugins",
        "fsdbev.d2.config.instantiate",
        "fsdbev.d2._builtin.config._run",
        "fsdbev.modeling.registry.inspect.os.system",
        "fsdbev.modeling.registry.Callable",
        "fsdbev.modeling.registry.__builtins__",
        "fsdbev.modeling.registry.build_part.__globals__",
        "fsdbev.modeling.registry",
        "fsdbev.modeling.nothing",
        "fsdbev.data.build.DataLoader",
        "fsdbev.data.build.os.system",
        "fsdbev.structures.BEVGrid.__init__",
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
    path = write(json.dumps({"model": {"parts": [{"deep": call}]}}))
    with pytest.raises(ValueError, match=r"model\.parts\.0\.deep\.(_target_|path)") as error:
        load_config(path)
    assert repr(target) in str(error.value) and "train.plugins" in str(error.value)


@pytest.mark.parametrize("target", [{"_target_": "builtins.str"}, ["os.system"], 3, None])
def test_target_is_text(write, target):
    with pytest.raises(ValueError, match=r"model\._target_: .* is not on the list"):
        load_config(write(json.dumps({"model": {"_target_": target}})))


def test_what_it_may_call(write):
    """A target may have any of its public names; Detectron2 saves the short ones."""
    names = ["torch.nn.Linear", "torch.optim.AdamW", "fsdbev.structures.BEVGrid"]
    load_config(write(json.dumps({"parts": [{"_target_": name} for name in names]})))


def test_types_of_numbers_and_classes_are_looked_up(write):
    text = "a: {_target_: hydra.utils.get_object, path: torch.bfloat16}"
    assert instantiate(load_config(write(text)).a) is torch.bfloat16


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}",
        "${oc.decode:${b}}",
        "\\${oc.env:HOME}",
        "${any: thing}",
        "${${b}}",
        "$${c}",
        "${b}{oc.env:HOME}",
        "${b",
        "${}",
    ],
)
def test_resolvers_are_refused(write, value):
    with pytest.raises(ValueError, match=r"config\.yaml: a\.0: .*is more than references"):
        load_config(write(json.dumps({"a": [value], "b": "{oc.env:HOME}"})))


def test_texts_cannot_become_a_resolver_or_multiply(write):
    """``$`` and ``{oc.env:HOME}`` from two keys would be resolved when the text is used."""
    content = {"a": "${b}${c}", "b": "$", "c": "{oc.env:HOME}"}
    with pytest.raises(ValueError, match=r"a: the text that its references lead to"):
        load_config(write(json.dumps(content)))
    doubled = {f"a{i + 1}": f"${{a{i}}}${{a{i}}}" for i in range(30)}
    with pytest.raises(ValueError, match="60 references are inside longer texts, at most 6"):
        load_config(write(json.dumps({"a0": "x", **doubled})))
    long = {"a0": "x" * 100_000, "a1": "${a0} ${a0} ${a0}", "b": ["${a1}"] * 200}
    with pytest.raises(ValueError, match="expand to over"):
        load_config(write(json.dumps(long)))
    chain = {f"a{i + 1}": f"${{a{i}}}" for i in range(3000)}  # resolved in minutes
    with pytest.raises(ValueError, match="3000 references, at most 250"):
        load_config(write(json.dumps({"a0": 1, **chain})))


def test_references_follow_overrides(write):
    """In a file that Detectron2 saved, a reference to an overridden value is the new value."""
    content = {
        "sizes": {"cell": 0.8, "missing": "???"},
        "model": {"cell": "${sizes.cell}", "head": {"cell": "${..cell}"}, "all": "${sizes}"},
        "later": "${sizes.missing}",
        "first": "${train.betas.0}",
        "folder": "out/${sizes.cell}/${train.betas.1}",
        "train": {"betas": [0.9, 0.99]},
    }
    path = write(json.dumps(content))
    cfg = load_config(path, ["sizes.cell=0.5", "sizes.missing=3", "train.betas.0=0.7"])
    assert (cfg.model.cell, cfg.model.head.cell, cfg.model.all.cell) == (0.5, 0.5, 0.5)
    assert (cfg.later, cfg.first, cfg.folder) == (3, 0.7, "out/0.5/0.99")
    assert load_config(path, ["model.cell=0.25"]).model.head.cell == 0.25


@pytest.mark.parametrize(
    "content",
    [
        {"a": ["${b}"], "b": ["${a}"]},
        {"a0": ["x"] * 10, **{f"a{i + 1}": [f"${{a{i}}}"] * 10 for i in range(20)}},
        {"a": list(range(1000)), "b": ["${a}"] * 100},
        {"dotted.key": {"a": "${b}"}, "b": {"c": ["${d}"] * 110}, "d": ["${e}"] * 110, "e": [1]},
    ],
)
def test_references_do_not_multiply(write, content):
    with pytest.raises(
        ValueError, match=rf"config\.yaml: .*over {MAX_VALUES} values, or form a cycle"
    ):
        load_config(write(json.dumps(content)))


@pytest.mark.parametrize("text", ["a: ${a}", "a: {b: ${a}}", "a: ${b}\nb: ${a}", "a: ${nothing}"])
def test_a_reference_to_nothing(write, text):
    """An override may still repair the reference: the error comes when the value is used."""
    path = write(text)
    with pytest.raises(ValueError, match="a"):
        resolved(load_config(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", r"aliases are not allowed.*\n.*line 2"),
        ("a: &x [*x]", "aliases"),
        (LAUGHS, "aliases"),
        ("a: !!python/object/apply:os.system ['touch ran']", "python/object"),
        ("a: !!python/name:os.system", "python/name"),
        ("a: !own x", "!own"),
        ("a: 1\na: 2", "line 1: a appears twice"),
        ("{1: 2, '1': 3}", "1 appears twice"),
        ("{[1]: 2}", "a key must be text"),
        ("{true: 2}", "a key must be text"),
        ("<<: {a: 1}", "merge"),
        ("a: 2020-01-01", "timestamp"),
        ("a: !!binary aGk=", "binary"),
        ("a: !!set {x}", "set"),
        ("[1]", "a config is a mapping"),
        ("a: [", "line 1"),
        ("\x00", "."),
        ("[" * 5000, "."),
        ("a: {_target_: '${b}'}\nb: os.system", r"a\._target_: '\${b}' is not on the list"),
        (
            "a: {_target_: hydra.utils.get_object, path: '${b}'}\nb: os.system",
            r"a\.path: '\${b}' is not on the list",
        ),
        ("a: ${b}\nb: {_target_: os.system}", r"b\._target_: 'os.system' is not on the list"),
        ("train: {plugins: [code_of_the_attacker]}", "train.plugins: 'code_of_the_attacker'"),
        ("train: {plugins: code_of_the_attacker}", "train.plugins: 'code_of_the_attacker'"),
        ("train: {plugins: [projects.LSS, projectsX]}", "train.plugins: 'projectsX'"),
        ("train: {plugins: {a: code_of_the_attacker}}", "train.plugins: "),
        ("train: {plugins: ['${b}']}\nb: code_of_the_attacker", "train.plugins: 'code_of"),
        ("train: {plugins: ['${b}']}\nb: projects.LSS", "train.plugins .* has no references"),
        ("train: {plugins: ['???']}", r"train\.plugins: '\?\?\?'"),
        ("train: {plugins: '${b}'}\nb: [code_of_the_attacker]", "train.plugins: 'code_of"),
        ("train: ${b}\nb: {plugins: [code_of_the_attacker]}", "train.plugins: 'code_of"),
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
        load_config(write(f"a: '{'x' * MAX_BYTES}'"))
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        load_config("none.yaml")


def test_a_saved_config_loads_again_with_its_plugin(write, tmp_path, monkeypatch):
    (tmp_path / "my_saved_plugin.py").write_text("def part(): return 6")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write("train: {plugins: [my_saved_plugin]}\npart: {_target_: my_saved_plugin.part}")
    with pytest.raises(ValueError, match=r"command line too, train\.plugins=\[my_saved_plugin\]"):
        load_config(path)
    assert instantiate(load_config(path, ["train.plugins=[my_saved_plugin]"]).part) == 6


def test_plugin_of_the_command_line_is_trusted(write, tmp_path, monkeypatch):
    (tmp_path / "my_trusted_plugin.py").write_text("def part(): return 5")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write("train: {plugins: []}\npart: {_target_: my_trusted_plugin.part}")
    with pytest.raises(ValueError, match=r"part\._target_.*train\.plugins=\[MODULE\]"):
        load_config(path)
    assert instantiate(load_config(path, ["train.plugins=[my_trusted_plugin]"]).part) == 5


def test_nothing_is_imported_before_it_is_allowed(write, tmp_path, monkeypatch):
    (tmp_path / "code_of_the_attacker.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = read_yaml_config(write("a: {_target_: code_of_the_attacker.x}"))
    with pytest.raises(ValueError, match="not on the list"):
        check_targets(cfg)
    assert not os.path.exists("ran")
