"""Environment table for bug reports, also where a library is missing or broken."""

import re
import runpy
from importlib import metadata
from pathlib import Path

import pytest
import torch

from fsdbev import __version__
from fsdbev.d2 import BACKEND
from fsdbev.layers import EXTENSION_BUILT
from fsdbev.utils import collect_env
from fsdbev.utils.collect_env import as_table, environment

ROOT = Path(__file__).resolve().parents[2]


def names(requirements):
    return {re.match(r"[A-Za-z0-9_.-]+", text).group() for text in requirements}


def test_it_names_versions_and_what_was_built(monkeypatch):
    monkeypatch.setenv("FSDBEV_SOMETHING", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    facts = environment()
    assert list(facts)[:3] == ["fsdbev", "Python", "platform"]
    assert facts["fsdbev"].startswith(__version__)
    assert facts["PyTorch"].startswith(torch.__version__)
    assert facts["numpy"] == metadata.version("numpy")
    assert facts["operators"].startswith("built" if EXTENSION_BUILT else "not built")
    assert ("built-in" in facts["Detectron2"]) == (BACKEND == "builtin")
    assert (facts["FSDBEV_SOMETHING"], facts["OMP_NUM_THREADS"]) == ("1", "1")
    assert all(value and "\n" not in value for value in facts.values())


def test_it_names_every_dependency():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = names(project["dependencies"]) - {"torch"}
    needed |= names(project["optional-dependencies"]["export"])
    assert needed <= set(collect_env.PACKAGES)


def test_missing_and_broken_libraries_do_not_hide_the_rest(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    def import_module(name):
        raise OSError(f"{name}:\n no such library")

    monkeypatch.setattr(collect_env.metadata, "version", version)
    monkeypatch.setattr(collect_env, "import_module", import_module)
    monkeypatch.setenv("PATH", "")  # no git, no nvidia-smi
    facts = environment()
    assert facts["numpy"] == "not installed"
    assert facts["PyTorch"] == "unavailable (OSError: torch: no such library)"
    assert facts["operators"].startswith("unavailable")
    assert facts["fsdbev"] == __version__ and facts["Python"].startswith("3.")


def test_a_gpu_is_described(monkeypatch):
    class Gpu:
        name, total_memory, major, minor = "A Card", 24 * 2**30, 8, 6

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Gpu)
    assert environment()["GPU 0"] == "A Card, 24.0 GiB, compute capability 8.6"


def test_it_does_not_name_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    facts = environment()
    assert facts["CUDA_HOME"] == "~/cuda"
    assert str(tmp_path) not in as_table(facts) and str(ROOT) not in as_table(facts)


@pytest.mark.filterwarnings("ignore:'fsdbev.utils.collect_env' found in sys.modules:RuntimeWarning")
def test_the_command_prints_the_table(monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    runpy.run_module("fsdbev.utils.collect_env", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "fsdbev"
    column = lines[0].index(__version__)
    assert next(line for line in lines if line.startswith("OMP_NUM_THREADS"))[column:] == "7"
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
