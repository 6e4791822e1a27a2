"""Checkpoints of a training: when they are saved, which are kept, failures of the disk."""

import errno
import logging
import os
import resource
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fsdbev.checkpoint import TrainingCheckpointer, load_weights, read_checkpoint
from fsdbev.engine import Trainer
from fsdbev.engine.hooks.checkpointing import CheckpointSaver
from fsdbev.engine.main import evaluate_only

MEGABYTE = 10**6


@pytest.fixture
def training(tmp_path):
    """Returns the hook of a training with 2 MB of weights, which saves after every iteration."""

    def make(folder=tmp_path, start=0, max_iter=1000, **options):
        model = torch.nn.Linear(500, 1000)
        hook = CheckpointSaver(TrainingCheckpointer(model, str(folder)), 1, **options)
        hook.trainer = SimpleNamespace(start_iter=start, max_iter=max_iter, eval_model=model)
        hook.before_train()
        return hook

    return make


def numbers(folder):
    return [int(path.stem[-7:]) for path in sorted(Path(folder).glob("model_0*.pth"))]


def make_old(folder, *iterations, hours):
    for iteration in iterations:
        then = time.time() - hours * 3600
        os.utime(folder / f"model_{iteration:07d}.pth", (then, then))


def cut(folder, iteration):
    path = folder / f"model_{iteration:07d}.pth"
    path.write_bytes(path.read_bytes()[:-10])


def test_max_to_keep(training, tmp_path):
    hook = training(max_to_keep=2)
    for iteration in range(5):
        hook.step(iteration)
    assert numbers(tmp_path) == [3, 4]
    resumed = training(start=5, max_to_keep=2)
    resumed.step(5)
    assert numbers(tmp_path) == [4, 5]


def test_old_ones_go_and_two_that_are_whole_stay_however_old(training, tmp_path):
    hook = training()
    for iteration in range(5):
        hook.step(iteration)
    make_old(tmp_path, 0, 1, 2, hours=3)
    hook = training(start=5, max_age_hours=2)
    hook.step(5)
    assert numbers(tmp_path) == [3, 4, 5]
    cut(tmp_path, 5)
    make_old(tmp_path, 3, 4, 5, hours=3)
    resumed = training(start=5, max_age_hours=2)
    resumed.step(6)  # 5 is truncated: 4 is the second complete one
    assert numbers(tmp_path) == [4, 6]


def test_the_last_complete_one_is_kept_besides_damaged_ones(training, tmp_path):
    hook = training()
    for iteration in range(4):
        hook.step(iteration)
    cut(tmp_path, 2)
    cut(tmp_path, 3)
    training(start=2, max_to_keep=3).step(4)
    assert numbers(tmp_path) == [1, 2, 3, 4]


def test_checkpoints_of_an_earlier_training_are_kept(training, tmp_path):
    before = training()
    for iteration in (3, 100):
        before.step(iteration)
    hook = training(max_to_keep=1, max_age_hours=1)
    make_old(tmp_path, 3, 100, hours=2)
    for iteration in range(6):
        hook.step(iteration)
    assert numbers(tmp_path) == [5, 100]  # 3 was overwritten and then belonged to this training


def test_old_one_is_removed_only_when_the_new_one_is_tagged(training, tmp_path, monkeypatch):
    hook = training(max_to_keep=1)
    hook.step(0)
    monkeypatch.setattr(
        hook.checkpointer, "tag_last_checkpoint", lambda name: full_disk(), raising=True
    )
    hook.step(1)
    assert 0 in numbers(tmp_path)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000000.pth"


def test_old_one_that_cannot_be_removed_is_a_warning(training, tmp_path, monkeypatch, caplog):
    hook = training(max_to_keep=1)
    hook.step(0)
    monkeypatch.setattr(os, "remove", lambda path: full_disk())
    hook.step(1)
    assert "could not be removed" in caplog.text and numbers(tmp_path) == [0, 1]


@pytest.mark.parametrize("options", [{"max_to_keep": 0}, {"max_age_hours": -1.0}])
def test_limits_are_above_zero(training, options):
    with pytest.raises(ValueError, match=rf"train\..*{next(iter(options))} must be"):
        training(**options)


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def file_limit():
    """Sets or removes a limit of 1 MB for the size of files."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # noqa: E731
    yield lambda on: limit(MEGABYTE if on else before[0])
    limit(before[0])


def assert_continues(hook, folder, caplog, fill, make_room):
    """Saves, fails to save, and saves again."""
    hook.step(0)
    fill()
    with caplog.at_level(logging.ERROR):
        hook.step(1)
    message = caplog.records[-1].getMessage()
    assert "NO CHECKPOINT of iteration 1" in message and "model_0000001.pth" in message
    assert "are free, 2.0 MB are needed" in message
    assert sorted(p.name for p in folder.iterdir() if p.name != "fill") == [
        "last_checkpoint",
        "model_0000000.pth",
    ]
    assert hook.checkpointer.newest_complete() == str(folder / "model_0000000.pth")
    make_room()
    hook.step(2)
    assert numbers(folder) == [2]


def test_training_goes_on_when_files_cannot_be_written(training, tmp_path, caplog, file_limit):
    hook = training(max_to_keep=1)
    assert_continues(hook, tmp_path, caplog, lambda: file_limit(True), lambda: file_limit(False))


def test_training_goes_on_when_the_disk_is_full(training, tmp_path, caplog):
    """A mounted file system of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("a disk can only be mounted by root")
    try:
        hook = training(folder, max_to_keep=1)
        fill = folder / "fill"
        assert_continues(
            hook, folder, caplog, lambda: fill.write_bytes(bytes(3 * MEGABYTE)), fill.unlink
        )
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES])
def test_system_errors_of_intermediate_checkpoints_are_tolerated(
    training, tmp_path, monkeypatch, number
):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    hook = training()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        hook.step(0)
    assert os.listdir(tmp_path) == []
    hook.step(1)
    assert numbers(tmp_path) == [1]


def test_last_checkpoint_of_a_training_must_be_written(training, tmp_path, file_limit):
    hook = training(max_iter=2)
    hook.step(0)
    file_limit(True)
    with pytest.raises(OSError, match=r"model_final\.pth.*are free, 2\.0 MB are needed"):
        hook.step(1)
    file_limit(False)
    assert hook.checkpointer.newest_complete() == str(tmp_path / "model_0000000.pth")


@pytest.mark.parametrize("averaged", ["true", "false"])
def test_evaluated_weights_are_written_at_the_end(toy_config, averaged):
    cfg = toy_config(f"train.ema.enabled={averaged}")
    trainer = Trainer(cfg)
    trainer.train()
    path = f"{cfg.train.output_dir}/model_final.safetensors"
    found = read_checkpoint(path)["model"]
    expected = trainer.eval_model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    load_weights(trainer.checkpointer.model, path, strict=True)


def test_training_continues_after_a_failed_checkpoint(toy_config, monkeypatch, caplog):
    cfg = toy_config("train.checkpointer.period=4")
    trainer = Trainer(cfg)
    save = trainer.checkpointer.save

    def fail_once(name, **extra):
        if name == "model_0000003":
            monkeypatch.setattr(os, "replace", full_disk)
        try:
            save(name, **extra)
        finally:
            monkeypatch.undo()

    trainer.checkpointer.save = fail_once
    trainer.train()
    assert "NO CHECKPOINT of iteration 3" in caplog.text
    folder = Path(cfg.train.output_dir)
    assert numbers(folder) == [7, 11] and (folder / "model_final.pth").exists()


def test_training_and_evaluation_skip_a_damaged_last_checkpoint(toy_config, caplog):
    cfg = toy_config("train.checkpointer.period=5")
    Trainer(cfg).train()
    final = Path(cfg.train.output_dir) / "model_final.pth"
    final.write_bytes(final.read_bytes()[:-1])
    caplog.clear()
    evaluate_only(cfg, last=True)
    assert "model_final.pth is skipped" in caplog.text and "model_0000009.pth" in caplog.text
    again = Trainer(cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == 10
