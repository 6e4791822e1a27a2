"""The commands of the pages for newcomers run in order, on less data and for two iterations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import commands, python_blocks

PAGES = ("docs/getting_started.md", "docs/looking.md", "README.md", "docs/own_cameras.md")
#: The page whose Python blocks are run too, after all commands.
PYTHON_PAGE = "docs/own_cameras.md"
FEWER_SCENES = "--scenes-train 1 --scenes-val 1 --frames 5 --lidar-azimuths 200 --workers 1"
#: Arguments that make the command of a tool cheaper.
CHEAPER = {
    "make_synthetic_nuscenes.py": FEWER_SCENES,
    "prepare_nuscenes.py": "--workers 0",
    "visualize.py": "--samples 1",
}
FEWER = [
    "dataloader.image_size=[32,96]",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "dataloader.evaluator.official=False",
    "model.grid.cell=7.0",
    "train.max_iter=2",
    "train.device=cpu",
]


def cheaper(words):
    """Returns the command with arguments that make it cheaper, after its mode or at the end."""
    if {"scene", "--print-config", "--diff-config"} & set(words):
        return words
    tool = Path(words[1]).name
    if tool == "train_net.py":
        report = "samples=1" if "--eval-only" in words else "enabled=false"
        return [*words, *FEWER, f"train.report.{report}"]
    added = CHEAPER.get(tool, "").split()
    # The weights are of the smaller model: a checkpoint contains image size and grid.
    smaller = FEWER if "diagnostics" in words else []
    if tool == "visualize.py":
        at = words.index("--samples") if "--samples" in words else None
        kept = words if at is None else words[:at] + words[at + 2 :]
        return [*kept[:3], *added, *kept[3:], *smaller]
    return [*words, *added]


pytestmark = pytest.mark.slow

#: Runs commands one after the other in one process, which imports PyTorch once.
RUN_ALL = """
import contextlib, io, json, runpy, sys, traceback

printed = []
sys.path.insert(0, "tools")  # as Python does for a script there
for words in json.load(sys.stdin):
    sys.argv, out, status = words[1:], io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            if words[1] == "-c":
                exec(compile(words[2], "a page's Python", "exec"), {})
            elif words[1] == "-m":
                sys.argv = words[2:]
                runpy.run_module(words[2], run_name="__main__")
            else:
                runpy.run_path(words[1], run_name="__main__")
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
            status = 1
    if status:
        sys.exit(f"{' '.join(words)} ended with {status}: {out.getvalue()[-2000:]}")
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
"""


@pytest.fixture(scope="module")
def followed(workspace):
    """Mapping from every Python command of the pages to its output."""
    found = [c.words for page in PAGES for c in commands() if c.document == page]
    found = [list(words) for words in dict.fromkeys(found) if words[0] == "python"]
    blocks = [block.code for block in python_blocks() if block.document == PYTHON_PAGE]
    found.append(["python", "-c", "\n".join(blocks)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps([cheaper(words) for words in found]),
        cwd=workspace,
        env=environment | {"PYTHONPATH": str(workspace)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return dict(zip((" ".join(words) for words in found), json.loads(done.stdout), strict=True))


def test_all_commands_run(followed):
    assert len(followed) >= 9


def test_pictures_and_metrics_are_where_the_pages_say(followed, workspace):
    output = workspace / "output"
    assert (output / "pictures" / "scene-5001.mp4").is_file()
    for folder in ("data", "results", "truth", "confident", "diagnostics"):
        assert list((output / "pictures" / folder).glob("*.png")), folder
    names = {path.name for path in (output / "first").iterdir()}
    expected = """
        config.yaml curves.png evaluation.json last_checkpoint log.txt metrics.json
        metrics_summary.json model_final.pth report.html results_nusc.json
    """
    assert set(expected.split()) <= names


def test_the_first_config_is_trained_and_printed(followed, workspace):
    assert (workspace / "output" / "my_first" / "model_final.pth").is_file()
    changes = next(text for words, text in followed.items() if "--diff-config" in words)
    assert "model.bev_encoder.out_channels: 32 -> 64" in changes.splitlines()
    config = next(text for words, text in followed.items() if "--print-config" in words)
    assert "max_iter: 100" in config


def test_the_other_commands_write_and_print_what_the_pages_say(followed, workspace):
    assert (workspace / "output" / "rig.yaml").is_file()
    assert len(list((workspace / "output" / "demo").iterdir())) > 0
    assert "operators" in followed["python -m fsdbev.utils.collect_env"]
