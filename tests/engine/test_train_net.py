"""tools/train_net.py with one process, two spawned ones, and two of torchrun."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from digests import state

from fsdbev.checkpoint import read_checkpoint
from fsdbev.engine import Trainer, run
from fsdbev.engine.main import evaluate_only
from fsdbev.utils.folder_lock import LOCK, locked_folder
from fsdbev.utils.processes import PREEMPTED

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / "tools" / "train_net.py"
CONFIG = HERE / "toy_config.py"


def train_net(folder, *arguments, launcher=(), **environment):
    """Runs the tool in ``folder``; its output folder is ``output/``."""
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "PYTHONPATH")}
    env |= {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, str(TOOL), "--config-file", str(CONFIG), *arguments]
    return subprocess.run(
        command, cwd=folder, env=env | environment, text=True, capture_output=True, timeout=300
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Output folder of a training in one process, started outside of the repository."""
    folder = tmp_path_factory.mktemp("one")
    done = train_net(folder, "train.max_iter=6", "train.eval_period=4")
    assert done.returncode == 0, done.stderr
    return folder / "output"


def test_one_process(trained):
    files = {path.name for path in trained.iterdir()}
    assert {
        "config.yaml",
        "evaluation.json",
        "last_checkpoint",
        "log.txt",
        "metrics.json",
        "model_0000004.pth",
        "model_final.pth",
    } <= files
    assert "max_iter: 6" in (trained / "config.yaml").read_text()
    assert "toy/error" in (trained / "metrics.json").read_text()
    log = (trained / "log.txt").read_text()
    assert "Environment:\nfsdbev " in log
    assert "eta: " in log and "loss_main" in log and "running on the CPU" in log


def test_saved_config_and_weights_evaluate_to_the_same(trained, tmp_path):
    run(
        [
            "--eval-only",
            "--config-file",
            str(trained / "config.yaml"),
            "train.plugins=[toy_training]",  # a YAML config may only call classes of plugins
            f"train.init_checkpoint={trained / 'model_final.pth'}",
            f"train.output_dir={tmp_path / 'output'}",
        ]
    )
    results = [
        json.loads((f / "evaluation.json").read_text()) for f in (trained, tmp_path / "output")
    ]
    assert results[0] == results[1] and results[0]["toy"]["count"] == 5


TWO = ("train.max_iter=6", "train.eval_period=2", "train.checkpointer.period=2")


@pytest.fixture(scope="module")
def trained_by_two(tmp_path_factory):
    """Output folder of an uninterrupted training in two spawned processes."""
    folder = tmp_path_factory.mktemp("two")
    done = train_net(folder, "--num-gpus", "2", *TWO)
    assert done.returncode == 0, done.stderr
    return folder / "output"


@pytest.mark.slow
def test_two_processes_stop_on_a_signal_and_go_on(tmp_path, toy_config, trained_by_two):
    """Two spawned processes whose launcher gets SIGTERM in iteration 3, then two of torchrun: they
    end with the same bits as an uninterrupted training."""
    spawned = train_net(tmp_path, "--num-gpus", "2", *TWO, TOY_STOP_AT="3")
    assert spawned.returncode == PREEMPTED, spawned.stderr
    output = tmp_path / "output"
    assert (output / "last_checkpoint").read_text() == "model_0000003.pth"
    # Both processes evaluated the weights of the checkpoint.
    evaluated = json.loads((output / "evaluation.json").read_text())["toy"]["error"]
    cfg = toy_config(f"train.init_checkpoint={output / 'model_0000001.pth'}", output="again")
    os.mkdir(cfg.train.output_dir)
    assert evaluate_only(cfg, last=False)["toy"]["error"] == pytest.approx(evaluated, rel=1e-5)

    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    resumed = train_net(tmp_path, "--resume", *TWO, launcher=torchrun)
    assert resumed.returncode == 0, resumed.stderr
    log = (output / "log.txt").read_text()
    assert log.count("World size: 2") == 2 and "Starting training from iteration 4" in log
    assert (output / "log.txt.rank1").exists()
    assert json.loads((output / "evaluation.json").read_text())["toy"]["count"] == 5
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = {line["iteration"]: line["loss_main"] for line in lines if "loss_main" in line}
    assert list(losses) == [0, 1, 2, 3, 4, 5]
    assert "not exactly" not in log
    assert state(output) == state(trained_by_two)


@pytest.mark.slow
def test_another_number_of_processes_goes_on_and_says_what_differs(
    tmp_path, toy_config, trained_by_two, caplog
):
    shutil.copytree(trained_by_two, tmp_path / "output")
    cfg = toy_config("train.max_iter=7", "dataloader.train.total_batch_size=4", "train.seed=5")
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()
    log = caplog.text[caplog.text.index("but not exactly as it would have") :]
    for text in ("world_size was 2 and is 1: batches", "batch_size was 8 and is 4", "seed was 0"):
        assert text in log
    run = read_checkpoint(str(tmp_path / "output" / "model_final.pth"))["trainer"]["run"]
    assert run["draws"] == 6 * 8 + 4


BAD = ("--num-gpus", "2", "dataloader.train.infinite=[21]", "train.checkpointer.period=1")


@pytest.fixture(scope="module")
def stopped_for_a_bad_number(tmp_path_factory):
    """Folder of a job that stopped: rank 1 loads sample 21 in iteration 2."""
    folder = tmp_path_factory.mktemp("bad")
    job = train_net(folder, *BAD, "train.max_skipped_steps=0")
    assert job.returncode == 1, job.stderr
    return folder


def test_all_processes_stop_for_a_bad_number_of_one(stopped_for_a_bad_number):
    output = stopped_for_a_bad_number / "output"
    log = (output / "log.txt").read_text()
    assert "loss_main is nan and loss_small is nan at iteration 2 on rank 1" in log
    assert "Samples there: sample-17, sample-19, sample-21, sample-23" in log
    record = output / "stopped_at_0000002"
    assert {p.name for p in record.iterdir()} == {"rank0.pth", "rank1.pth"}
    batch = read_checkpoint(str(record / "rank1.pth"))["batch"]
    assert [sample["index"] for sample in batch] == [17, 19, 21, 23]
    assert (output / "last_checkpoint").read_text() == "model_0000001.pth"


@pytest.mark.slow
def test_all_processes_skip_an_iteration_together_and_pass_over_a_damaged_checkpoint(
    stopped_for_a_bad_number, tmp_path
):
    output = tmp_path / "output"
    shutil.copytree(stopped_for_a_bad_number / "output", output)
    damaged = output / "model_0000001.pth"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    again = train_net(tmp_path, "--resume", *BAD)
    assert again.returncode == 0, again.stderr
    log = (output / "log.txt").read_text()
    assert "model_0000001.pth is skipped" in log and "training from iteration 1" in log
    assert "1 of 5 that train.max_sk" in log
    weights = read_checkpoint(str(output / "model_final.pth"))["model"]
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.max_itre=3", "train.max_iter"),
        ("train.max_iter=many", "train.max_iter"),
        ("model._target_=os.system", "_target_"),
        ("--resum=3", "--resum"),
        ("--no-such-option", "unrecognized arguments: --no-such-option"),
        ("steps", "key=value"),
    ],
)
def test_wrong_override_is_an_error_before_anything_runs(
    tmp_path, monkeypatch, capsys, override, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(["--config-file", str(CONFIG), "train.log_period=1", override])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("option", ["--eval-only", "--resume", "--num-gpus=2"])
def test_an_output_folder_that_another_process_writes_to(tmp_path, monkeypatch, capsys, option):
    output, files = tmp_path / "output", []
    monkeypatch.setattr("fsdbev.engine.main.launch", lambda *_: files.extend(os.listdir(output)))
    arguments = ["--config-file", str(CONFIG), option, f"train.output_dir={output}"]
    with locked_folder(output, "-"):
        with pytest.raises(SystemExit) as stopped:
            run(arguments)
        message = capsys.readouterr().err
        assert stopped.value.code == 2 and not files
        assert f"{output}: process {os.getpid()} on " in message
        assert "choose another train.output_dir" in message
        # Another rank of the job, and another machine's launcher, whose first process has the lock.
        with monkeypatch.context() as patch:
            patch.setenv("RANK", "1")
            run(arguments)
        run([*arguments, "--num-machines=2", "--machine-rank=1", "--dist-url=tcp://host:1"])
    files.clear()
    run(arguments)
    assert LOCK in files and not os.listdir(output)


def test_options_may_follow_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []
    monkeypatch.setattr(
        "fsdbev.engine.main.launch", lambda main, args, timeouts: found.append(args)
    )
    overrides = ["train.seed=1", "train.max_iter=-3", "train.log_period=2"]
    start = ["--config-file", str(CONFIG)]
    run([*start, overrides[0], "--resume", *overrides[1:], "--num-gpus", "2", "--eval-only"])
    run([*start, "--resume", "--eval-only", "--num-gpus", "2", *overrides])
    assert found[0] == found[1]
    assert (found[0].resume, found[0].num_gpus, found[0].opts) == (True, 2, overrides)


def test_command_line_errors(tmp_path, capsys):
    wrong = {
        "--config-file is needed": [],
        "no_such.py": ["--config-file", str(tmp_path / "no_such.py")],
        "--dist-url": ["--config-file", str(CONFIG), "--num-machines", "2"],
        "not allowed with": ["--diff-config", str(CONFIG), "train.seed=1", "--print-config"],
        "'--' is neither an option nor an override": ["--config-file", str(CONFIG), "a=1", "--"],
    }
    for message, arguments in wrong.items():
        with pytest.raises(SystemExit):
            run(arguments)
        assert message in capsys.readouterr().err


def test_evaluating_refuses_weights_of_another_model(toy_config, tmp_path):
    torch.save({"out.weight": torch.zeros(1, 8)}, tmp_path / "part.pth")
    cfg = toy_config(f"train.init_checkpoint={tmp_path / 'part.pth'}")
    with pytest.raises(ValueError, match="not in the file: net"):
        evaluate_only(cfg, last=False)
