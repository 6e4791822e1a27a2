"""A stopped and resumed training ends with the same bits as an uninterrupted one."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from digests import state

from fsdbev.checkpoint import read_checkpoint
from fsdbev.config import load_config
from fsdbev.d2.engine import hooks
from fsdbev.engine import Trainer
from fsdbev.utils.processes import PREEMPTED

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TINY = ROOT / "configs" / "fsdbev_tiny_synthetic.py"
BATCH = 2


def precision(dtype):
    return () if dtype == "float32" else ("train.amp.enabled=true", f"train.amp.dtype={dtype}")


def tiny_config(data, output, *overrides):
    """Returns a config on the synthetic set, whose epoch of three samples ends within a batch."""
    options = [
        f"dataloader.dataroot={data}",
        f"train.output_dir={output}",
        "dataloader.image_size=[64,112]",
        f"dataloader.train.total_batch_size={BATCH}",
        "dataloader.train.num_workers=0",
        "dataloader.train.class_balanced=false",
        "dataloader.evaluator=null",
        "train.device=cpu",
        "train.checkpointer.period=100",
        "train.ema.start_updates=0",
        "train.ema.warmup=2",
        "lr_multiplier.warmup_iters=4",
        "train.log_period=1",
    ]
    return load_config(str(TINY), [*options, *overrides])


class Crash(Exception):
    pass


def crash():
    raise Crash


def ask_to_stop():
    os.kill(os.getpid(), signal.SIGTERM)


def train(cfg, *, seed=0, stop_at=None, end=ask_to_stop, resume=False):
    """Trains with seeded initial weights; calls ``end`` before iteration ``stop_at``."""

    def stop(trainer):
        if trainer.iter == stop_at:
            end()

    torch.manual_seed(seed)
    trainer = Trainer(cfg)
    trainer.register_hooks([hooks.CallbackHook(before_step=stop)])
    trainer.resume_or_load(resume=resume)
    try:
        trainer.train()
    except SystemExit as stopped:
        assert stopped.code == PREEMPTED
    except Crash:
        pass
    return trainer


@pytest.mark.parametrize(
    ("workers", "dtype"),
    [
        (2, "bfloat16"),
        pytest.param(0, "bfloat16", marks=pytest.mark.slow),
        pytest.param(2, "float32", marks=pytest.mark.slow),
        pytest.param(0, "float32", marks=pytest.mark.slow),
    ],
)
def test_the_bits_are_those_of_the_uninterrupted_training(synthetic_root, tmp_path, workers, dtype):
    steps, stop_at = 4, random.Random(f"{workers} {dtype}").randrange(3)
    uninterrupted, parts = tmp_path / "uninterrupted", tmp_path / "parts"
    options = (f"train.max_iter={steps}", *precision(dtype))
    train(tiny_config(synthetic_root, uninterrupted, *options))
    cfg = tiny_config(synthetic_root, parts, *options, f"dataloader.train.num_workers={workers}")
    train(cfg, stop_at=stop_at)
    assert not (parts / "model_final.pth").exists()
    # Another process starts with other weights and random numbers.
    assert train(cfg, seed=99, resume=True).start_iter == stop_at + 1
    assert state(parts) == state(uninterrupted)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize(
    ("workers", "dtype", "end"),
    [(0, "float32", crash), (2, "float16", ask_to_stop), (0, "bfloat16", ask_to_stop)],
)
def test_the_bits_of_a_toy_training(toy_config, workers, dtype, end):
    """With the loss scale of float16; after a crash it resumes from the last checkpoint."""
    options = (*precision(dtype), f"dataloader.train.num_workers={workers}")
    uninterrupted = toy_config(*options, output="uninterrupted")
    parts = toy_config(*options, output="parts")
    train(uninterrupted)
    train(parts, stop_at=7, end=end)
    resumed = train(parts, seed=99, resume=True)
    assert resumed.start_iter == (5 if end is crash else 8)
    first = 8 * resumed.start_iter
    assert resumed.checkpointer.model.seen[0] == list(range(first, first + 8))
    expected = Path(uninterrupted.train.output_dir)
    assert state(Path(parts.train.output_dir)) == state(expected)
    step = read_checkpoint(str(expected / "model_final.pth"))["trainer"]["_trainer"]
    assert (step["grad_scaler"].get("_growth_tracker", 0) > 0) == (dtype == "float16")


def iterations(output):
    """Returns the iterations in the metrics file of a running training."""
    path = output / "metrics.json"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["iteration"] for line in lines]


@pytest.mark.slow
def test_a_process_that_is_told_to_stop_at_any_moment(toy_config, tmp_path):
    options = ["train.max_iter=150", "dataloader.train.num_workers=2", *precision("bfloat16")]
    parts = tmp_path / "parts"
    command = [sys.executable, str(ROOT / "tools" / "train_net.py")]
    command += ["--config-file", str(HERE / "toy_config.py"), *options]
    process = subprocess.Popen(
        [*command, f"train.output_dir={parts}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"},
    )
    stop_at = random.randrange(50)  # early enough for the signal to arrive before the end
    while process.poll() is None and stop_at not in iterations(parts):
        time.sleep(0.002)
    time.sleep(random.random() * 0.05)
    process.send_signal(random.choice([signal.SIGTERM, signal.SIGUSR1]))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == PREEMPTED, out[-3000:]
    reached = int(re.search(r"Asked to stop after iteration (\d+)", out)[1])
    assert stop_at <= reached < 150
    resumed = train(toy_config(*options, output="parts"), seed=99, resume=True)
    assert resumed.start_iter == reached + 1
    train(toy_config(*options, output="uninterrupted"))
    assert state(parts) == state(tmp_path / "uninterrupted"), f"stopped after iteration {reached}"


def test_a_seed_that_was_drawn_goes_on_as_well(synthetic_root, tmp_path):
    def start(name, **options):
        cfg = tiny_config(synthetic_root, tmp_path / name, "train.seed=-1", "train.max_iter=1")
        return train(cfg, **options)

    first = start("first")
    again = start("first", resume=True)
    assert again._seed.seed == first._seed.seed
    sampler, dataset = again.data_loader.sampler, again.data_loader.dataset
    assert sampler.seed == dataset.seed == first._seed.seed and sampler.start == BATCH
    assert Trainer(first.cfg)._seed.seed != first._seed.seed
