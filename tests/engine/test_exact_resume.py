"""A training that stops and goes on ends with the very bits of one that was never stopped."""

import itertools
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
from fsdbev.d2.engine import hooks
from fsdbev.engine import Trainer, load_config
from fsdbev.engine.stopping import PREEMPTED

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "fsdbev_tiny_synthetic.py"
STEPS, BATCH = 5, 2
AMP = {
    "float32": (),
    "bfloat16": ("train.amp.enabled=true", "train.amp.dtype=bfloat16"),
}


def overrides(data, output, workers, precision, *more):
    return [
        f"dataloader.dataroot={data}",
        f"train.output_dir={output}",
        "dataloader.image_size=[64,176]",
        f"dataloader.train.total_batch_size={BATCH}",
        f"dataloader.train.num_workers={workers}",
        "dataloader.train.class_balanced=false",  # an epoch has three samples: never a whole batch
        "dataloader.evaluator=null",
        "train.device=cpu",
        f"train.max_iter={STEPS}",
        "train.checkpointer.period=100",
        "train.ema.start_updates=0",
        "train.ema.warmup=2",
        "lr_multiplier.warmup_iters=4",
        "train.log_period=1",
        *AMP[precision],
        *more,
    ]


def train(cfg, *, stop_at=None, resume=False):
    """In this process; after ``stop_at`` iterations it is told to stop."""

    def stop(trainer):
        if trainer.iter + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer = Trainer(cfg)
    trainer.register_hooks([hooks.CallbackHook(before_step=stop)])
    trainer.resume_or_load(resume=resume)
    try:
        trainer.train()
    except SystemExit as end:
        assert end.code == PREEMPTED


@pytest.fixture(scope="module")
def uninterrupted(synthetic_root, tmp_path_factory):
    """State of a training of all steps by precision, loaded without workers."""
    made = {}

    def of(precision):
        if precision not in made:
            output = tmp_path_factory.mktemp(precision)
            torch.manual_seed(0)  # train.seed, as a process begins
            train(load_config(str(TINY), overrides(synthetic_root, output, 0, precision)))
            made[precision] = state(output)
        return made[precision]

    return of


CASES = list(itertools.product([0, 2], AMP))


@pytest.mark.parametrize("workers, precision", CASES)
def test_the_bits_are_those_of_the_uninterrupted_training(
    synthetic_root, tmp_path, uninterrupted, workers, precision
):
    stop_at = random.Random(CASES.index((workers, precision))).randrange(1, STEPS)
    cfg = load_config(str(TINY), overrides(synthetic_root, tmp_path, workers, precision))
    torch.manual_seed(0)
    train(cfg, stop_at=stop_at)
    assert not (tmp_path / "model_final.pth").exists()
    torch.manual_seed(99)  # another process begins with other weights and random numbers
    train(cfg, resume=True)
    assert state(tmp_path) == uninterrupted(precision)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_so_are_those_of_a_scaled_loss(toy_config, workers):
    """In float16, which convolutions on the CPU are slow in: a smaller model."""
    options = ("train.amp.enabled=true", "train.amp.dtype=float16")
    options += (f"dataloader.train.num_workers={workers}",)
    whole, parts = toy_config(*options, output="whole"), toy_config(*options, output="parts")
    torch.manual_seed(1)
    train(whole)
    torch.manual_seed(1)
    train(parts, stop_at=random.Random(workers).randrange(2, 10))
    torch.manual_seed(99)
    train(parts, resume=True)
    expected = state(Path(whole.train.output_dir))
    assert state(Path(parts.train.output_dir)) == expected
    scaler = read_checkpoint(f"{whole.train.output_dir}/model_final.pth")["trainer"]["_trainer"]
    assert scaler["grad_scaler"]["_growth_tracker"] > 0


def command(data, output, *more, options=()):
    """The training as a process of its own."""
    arguments = overrides(data, output, 2, "bfloat16", *more)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "train_net.py"), "--config-file", str(TINY)]
        + [*options, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process, status=0):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == status, out[-3000:]
    return out


def iterations(output):
    """Iterations that a running training has written metrics of."""
    path = output / "metrics.json"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["iteration"] for line in lines]


def test_a_process_that_is_told_to_stop_at_any_moment(synthetic_root, tmp_path, uninterrupted):
    parts = tmp_path / "parts"
    process = command(synthetic_root, parts)
    wanted = random.randrange(STEPS - 3)  # leaves time to tell it
    while process.poll() is None and wanted not in iterations(parts):
        time.sleep(0.002)
    time.sleep(random.random() * 0.05)
    process.send_signal(random.choice([signal.SIGTERM, signal.SIGUSR1]))
    process.send_signal(signal.SIGTERM)
    out = finished(process, PREEMPTED)
    reached = int(re.search(r"Asked to stop after iteration (\d+)", out)[1])
    assert wanted <= reached < STEPS
    out = finished(command(synthetic_root, parts, options=["--resume"]))
    assert f"Starting training from iteration {reached + 1}" in out
    assert "not exactly" not in out
    assert state(parts) == uninterrupted("bfloat16"), f"stopped after iteration {reached}"


def test_a_seed_that_was_drawn_goes_on_as_well(synthetic_root, tmp_path):
    def run(name, steps, resume=False):
        cfg = load_config(
            str(TINY),
            [
                *overrides(synthetic_root, tmp_path / name, 0, "float32"),
                "train.seed=-1",
                f"train.max_iter={steps}",
            ],
        )
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=resume)
        trainer.train()
        return trainer

    first = run("first", 2)
    again = run("first", 3, resume=True)
    assert again._seed.seed == first._seed.seed != run("other", 1)._seed.seed
    sampler, dataset = again.data_loader.sampler, again.data_loader.dataset
    assert sampler.seed == dataset.seed == first._seed.seed and sampler.start == 2 * BATCH
