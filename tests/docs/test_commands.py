"""Every command of every document is valid.

The tool accepts the arguments, the config accepts the overrides, and the files exist or are written
by another command. test_getting_started.py runs the cheap commands. A command without a rule fails.
"""

import importlib.util
import re
import shlex
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from documents import ROOT, commands, python_blocks
from torch.distributed.run import get_args_parser

from fsdbev.config import load_config
from fsdbev.engine import run

#: Commands that are not run, with the reason; ``RULES`` checks their arguments.
NOT_RUN = {
    "black": "CI's lint job runs it",
    "curl": "downloads",
    "docker": "not to be had in tests; tests/test_packaging.py reads the Dockerfile",
    "mkdir": "nothing to check",
    "mkdocs": "test_site.py builds the site",
    "pip": "changes the environment that the tests run in",
    "ruff": "CI's lint job runs it",
    "source": "the tests are in an environment",
    "sbatch": "needs SLURM; test_slurm.py runs the script with fake SLURM commands",
    "tensorboard": "serves until it is stopped",
    "torchrun": "needs several machines; tests/engine/test_train_net.py runs two processes of it",
}
#: Files and folders that no command of the documents writes, and where they come from.
GIVEN = {
    "/data/nuscenes": "nuScenes",
    "data/nuscenes": "nuScenes",
    "DOWNLOADED.pth": "the release's weights",
    "fsdbev_r50.safetensors": "converted weights",
    "output/stopped_at_0004711": "left by a training that stops for a number that is not finite",
    "work_dirs": "results of mmdet3d",
    "prepared": "written by the Python blocks of docs/custom_dataset.md",
}
#: Files that a training (a checkpoint among them) or an evaluation writes to its output folder.
RUN_FILES = (
    "model_final.pth",
    "model_0003999.pth",
    "results_nusc.json",
    "config.yaml",
    "log.txt",
    "metrics.json",
)
FILE_TYPES = (".arrow", ".json", ".pth", ".py", ".safetensors", ".sh", ".txt")
OUTPUT_OPTIONS = ("--out", "--output", "--json", "-o")
COMMANDS = commands()


@cache
def load_tool(name):
    path = ROOT / "tools" / f"{name}.py"
    assert path.is_file(), f"there is no tool {name}.py"
    spec = importlib.util.spec_from_file_location(f"documented_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def value_after(words, option):
    return words[words.index(option) + 1] if option in words else None


def override(words, key):
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return values[-1] if values else None


def written_by(command):
    """Yields the files and folders that a command writes."""
    words = command.words
    tool = Path(words[1]).name if len(words) > 1 else ""
    if tool == "quickstart.sh":
        yield from ("output/quickstart/data", "output/quickstart/pictures")
        yield from (f"output/quickstart/train/{name}" for name in RUN_FILES)
    elif tool == "train_net.py":
        folder = (override(words, "train.output_dir") or "output").removeprefix("./")
        yield folder
        yield from (f"{folder}/{name}" for name in RUN_FILES)
    elif tool == "prepare_nuscenes.py":
        root, version = value_after(words, "--dataroot"), value_after(words, "--version")
        yield value_after(words, "--output") or f"{root}/fsdbev/{version}"
    elif tool == "convert_checkpoint.py":
        yield words[3]
    elif tool == "fake_recording.py":
        yield words[2]
    elif tool != "visualize.py":
        yield from filter(None, (value_after(words, option) for option in OUTPUT_OPTIONS))


OUTPUTS = {path for command in COMMANDS for path in written_by(command)}
CONFIGS_TO_WRITE = {block.file for block in python_blocks() if block.file}


def is_known(path):
    """Whether a file is in the project, given, or written by a command of the documents.

    In the output folder of a run only ``RUN_FILES`` are known, in other folders every file.
    """
    if (ROOT / path).exists() or path in OUTPUTS | CONFIGS_TO_WRITE:
        return True
    run_folders = {str(Path(file).parent) for file in OUTPUTS if file.endswith(RUN_FILES)}
    folders = (OUTPUTS - run_folders) | set(GIVEN)
    return any(path.startswith(f"{folder}/") or path == folder for folder in folders)


def files_read(words):
    """Yields the arguments that look like the path of a file that the command reads."""
    for before, word in zip(words, words[1:]):
        if before in OUTPUT_OPTIONS or word.startswith(("-", "tcp:", "http")):
            continue
        key, _, value = word.rpartition("=")
        if key.endswith(("output_dir", "plugins", "index_dir")):
            continue
        if re.fullmatch(r"[\w./-]+", value) and ("/" in value or Path(value).suffix in FILE_TYPES):
            yield value


def check_train_net(arguments):
    prints_only = {"--print-config", "--diff-config"} & set(arguments)
    run(arguments if prints_only else ["--print-config", *arguments])


def check_tool(name, arguments):
    parsed = load_tool(name).parse_arguments(arguments)
    files = getattr(parsed, "config_file", None) or []
    for file in [files] if isinstance(files, str) else files:
        load_config(file.rpartition("=")[2], getattr(parsed, "overrides", ()))


def check_python(words):
    if words[1] == "-m":
        assert words[2] in ("pytest", "fsdbev.utils.collect_env"), f"unknown module {words[2]}"
        if words[2] == "pytest":
            assert all((ROOT / word).exists() for word in words[3:] if "/" in word)
    elif words[1] == "setup.py":
        assert words[2:] == ["build_ext", "--inplace"]
    elif words[1].startswith("tools/"):
        name = Path(words[1]).stem
        check_train_net(words[2:]) if name == "train_net" else check_tool(name, words[2:])
    else:
        assert (ROOT / words[1]).is_file() and words[1].startswith("docs/examples/")


def check_script(words):
    script = next(word for word in words[1:] if word.startswith(("tools/", "docs/")))
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def check_sbatch(words):
    check_script(words)
    config, output, *overrides = words[words.index("docs/examples/train.sbatch") + 1 :]
    load_config(config, [f"train.output_dir={output}", *overrides])


def check_torchrun(words):
    parsed = get_args_parser().parse_args(words[1:])
    assert parsed.training_script == "tools/train_net.py"
    check_train_net(parsed.training_script_args)


def check_docker(words):
    assert (ROOT / "Dockerfile").is_file()
    if words[1] == "run":
        check_python(words[words.index("fsdbev") + 1 :])


def check_pip(words):
    extras = re.search(r"\[([\w,]+)\]", " ".join(words))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras[1].split(",") if extras else ():
        assert re.search(rf"^{extra} = \[", project, re.M), f"pyproject.toml has no extra {extra}"


def check_source(words):
    assert words[1:] == [".venv/bin/activate"]
    assert 'VENV:-$ROOT/.venv}"' in (ROOT / "tools" / "environment.sh").read_text()


#: First word of a command -> check of the command that does not run it.
RULES = {
    "python": check_python,
    "bash": check_script,
    "sbatch": check_sbatch,
    "torchrun": check_torchrun,
    "docker": check_docker,
    "pip": check_pip,
    **dict.fromkeys(
        ("black", "curl", "mkdir", "mkdocs", "ruff", "tensorboard"), lambda words: None
    ),
    "source": check_source,
}


@pytest.fixture
def in_workspace(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.syspath_prepend(str(workspace))


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_the_command_is_valid(command, in_workspace, capsys):
    program = command.words[0]
    assert program in RULES, f"{command}: no rule says how to check {program!r}"
    try:
        RULES[program](list(command.words))
    except (SystemExit, ValueError, OSError) as error:
        pytest.fail(f"{command}: {error} {capsys.readouterr().err}")
    if program in ("python", "bash", "sbatch", "torchrun", "pip"):
        unknown = [path for path in files_read(command.words) if not is_known(path)]
        assert not unknown, f"{command}: no command writes {unknown}"


def test_commands_that_are_not_run_are_listed():
    programs = Counter(command.words[0] for command in COMMANDS)
    assert set(programs) - {"python", "bash"} <= set(NOT_RUN)
    assert programs["python"] > 40
    # Commands are split as the shell splits them.
    assert not any(word in ("\\", "#") for command in COMMANDS for word in command.words)


@pytest.mark.parametrize(
    "text",
    [
        "nosuchprogram --help",
        "python tools/no_such_tool.py",
        "python tools/train_net.py --config-file configs/fsdbev_tiny_synthetic.py train.max_itre=3",
        "python tools/train_net.py --config-file configs/fsdbev_tiny_synthetic.py --no-such-option",
        "python tools/visualize.py truth --out x",
        "python tools/analyze_model.py --config-file configs/no_such.py",
        "torchrun --nproc-per-node 2 tools/train_net.py --config-file configs/no_such.py",
        "python -m no_such_module",
        "bash tools/no_such.sh",
        "pip install -e .[no_such_extra]",
        "sbatch docs/examples/train.sbatch configs/no_such.py output/x",
    ],
)
def test_the_rules_can_fail(text, in_workspace):
    words = shlex.split(text)
    refused = (AssertionError, KeyError, SystemExit, ValueError, OSError, CalledProcessError)
    with pytest.raises(refused):
        RULES[words[0]](words)


def test_files_that_no_command_writes_are_found():
    words = ("python", "x.py", "--results", "output/inference/results_nusc.json", "--out", "new/x")
    unknown = [path for path in files_read(words) if not is_known(path)]
    assert unknown == ["x.py", "output/inference/results_nusc.json"]


#: Documents with Python blocks: the test that runs them, or why they are not run.
PYTHON = {
    "docs/concepts.md": "test_the_concepts_page_runs",
    "docs/custom_dataset.md": "tests/data/index/test_custom_dataset.py",
    "docs/detectron2.md": "test_detectron2_page.py",
    "docs/deployment.md": "needs an exported package; tests/export/test_export_model.py runs one",
    "docs/own_cameras.md": "test_getting_started.py",
    "MODEL_ZOO.md": "tests/test_model_zoo.py",
    "README.md": "a config, which test_getting_started.py trains",
    "projects/README.md": "a sketch of projects/DilatedEncoder, which is tested",
}


def test_python_blocks_compile_and_are_run_or_listed():
    for block in python_blocks():
        compile(block.code, block.document, "exec")
    assert {block.document for block in python_blocks()} == set(PYTHON)


def test_the_concepts_page_runs(in_workspace):
    names = {}
    for block in python_blocks():
        if block.document == "docs/concepts.md":
            exec(compile(block.code, block.document, "exec"), names)
    assert "loss_distill" in names["losses"] and names["boxes"].tensor.shape[1] == 9
