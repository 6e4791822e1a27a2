"""Plugins by module name and by entry point, and the errors of plugins."""

import sys

import pytest

from fsdbev.config import load_config
from fsdbev.config.loading import config_text
from fsdbev.config.plugins import load_plugins
from fsdbev.model_zoo import CONFIGS
from fsdbev.modeling import PART_REGISTRY, build_part

PART = """
from fsdbev.modeling import PART_REGISTRY

@PART_REGISTRY.register()
def {name}(*, size):
    return size + 1
"""


@pytest.fixture
def write_plugin(tmp_path, monkeypatch):
    """Function: writes a module with this source to the Python path; undone after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    modules, parts = set(sys.modules), set(dict(PART_REGISTRY))

    def write(module, source):
        (tmp_path / f"{module}.py").write_text(source)

    yield write
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    for name in set(dict(PART_REGISTRY)) - parts:
        del PART_REGISTRY._obj_map[name]


def test_module_by_its_name(write_plugin):
    write_plugin("plugin_by_name", PART.format(name="PartByName"))
    load_plugins(["plugin_by_name"])
    assert build_part(name="PartByName", size=2) == 3
    load_plugins(["plugin_by_name"])  # a second time has no effect


def test_module_in_the_working_directory(write_plugin, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "plugin_here.py").write_text(PART.format(name="PartHere"))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", list(sys.path))
    load_plugins(["plugin_here"])
    assert "PartHere" in PART_REGISTRY


@pytest.mark.parametrize("names", [[], ["installed"]])
def test_entry_point_of_an_installed_package(write_plugin, tmp_path, names):
    write_plugin("plugin_installed", PART.format(name="PartInstalled"))
    metadata = tmp_path / "some_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: some-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[fsdbev.plugins]\ninstalled = plugin_installed\n")
    load_plugins(names)
    assert build_part(name="PartInstalled", size=1) == 2
    with pytest.raises(ValueError, match="installed plugins: installed"):
        load_plugins(["plugin_that_is_not"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "ModuleNotFoundError: No module named 'plugin_that_fails'.*working directory"),
        ("import module_that_is_not", "ModuleNotFoundError: No module named 'module_that_is_not'"),
        ("1 / 0", "ZeroDivisionError"),
        (PART.format(name="ResNet"), "AssertionError.*'ResNet' was already registered"),
    ],
)
def test_plugin_that_fails(write_plugin, source, message):
    if source is not None:
        write_plugin("plugin_that_fails", source)
    with pytest.raises(ValueError, match=f"'plugin_that_fails' cannot be loaded: {message}"):
        load_plugins(["plugin_that_fails"])


def test_config_and_command_line_name_plugins(write_plugin, tmp_path):
    write_plugin("plugin_of_config", PART.format(name="PartOfConfig"))
    write_plugin("plugin_of_line", PART.format(name="PartOfLine"))
    config = tmp_path / "config.py"
    config.write_text('train = dict(plugins=["plugin_of_config"])')
    load_config(str(config), ["train.plugins=[plugin_of_line]"])
    assert "PartOfLine" in PART_REGISTRY and "PartOfConfig" not in PART_REGISTRY
    load_config(str(config))
    assert "PartOfConfig" in PART_REGISTRY


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.bev_encoder.name=DilatedEncoder", "model.bev_encoder.name: no part of a model.*"),
        ("model.name=FSDBEF", "model.name: no meta-architecture.*did you mean 'FSDBEV'.*"),
    ],
)
@pytest.mark.parametrize("saved", [False, True])
def test_unregistered_names_are_errors_when_the_config_is_read(tmp_path, override, message, saved):
    path = str(CONFIGS / "fsdbev_tiny_synthetic.py")
    if saved:
        (tmp_path / "config.yaml").write_text(config_text(load_config(path)))
        path = str(tmp_path / "config.yaml")
    with pytest.raises(ValueError, match=f"{message}there are .*FSDBEV|{message}BEVEncoder"):
        load_config(path, [override])


def test_one_name_is_a_list_of_one_and_none_is_needed(write_plugin, tmp_path):
    config = tmp_path / "config.py"
    config.write_text("model = dict(a=1)")
    assert load_config(str(config)) == {"model": {"a": 1}}
    write_plugin("single_plugin", PART.format(name="SinglePart"))
    config.write_text('train = dict(plugins="single_plugin")')
    load_config(str(config))
    assert "SinglePart" in PART_REGISTRY
