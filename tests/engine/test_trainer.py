"""The trainer: complete runs of the toy training."""

import json
import math
from pathlib import Path

import pytest
import torch

from fsdbev.checkpoint import read_checkpoint
from fsdbev.d2.engine import DefaultTrainer, HookBase
from fsdbev.d2.utils.events import EventStorage, has_event_storage
from fsdbev.engine import Trainer


def run(cfg, *, resume=False):
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    torch.manual_seed(1234)  # the state of the generator must not matter
    results = trainer.train()
    return trainer, results


def saved(cfg, name):
    return read_checkpoint(str(Path(cfg.train.output_dir) / f"{name}.pth"))


def metrics_of(cfg):
    lines = (Path(cfg.train.output_dir) / "metrics.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_training_learns_and_reports(toy_config):
    cfg = toy_config("train.max_iter=100", "train.ema.warmup=20", "train.ema.decay=0.9")
    torch.manual_seed(0)
    trainer, results = run(cfg)
    assert isinstance(trainer, DefaultTrainer)
    lines = metrics_of(cfg)
    first, last = lines[0], next(x for x in reversed(lines) if "loss_main" in x)
    assert last["loss_main"] < 0.5 * first["loss_main"]
    assert first["total_loss"] == pytest.approx(first["loss_main"] + first["loss_small"], rel=1e-5)
    assert {"lr", "grad_norm", "data_time", "iteration"} <= first.keys()
    assert first["lr"] == pytest.approx(1e-2 * 1e-3)
    assert results["toy"]["count"] == 5
    written = json.loads((Path(cfg.train.output_dir) / "evaluation.json").read_text())
    assert written["toy"]["error"] == results["toy"]["error"] and written["toy"]["never"] is None
    assert any("toy/error" in line for line in lines)


def test_averaged_weights_are_evaluated(toy_config):
    trainer, results = run(toy_config("train.ema.start_updates=0", "train.ema.warmup=5"))
    assert trainer.eval_model is trainer.ema.model
    raw, averaged = trainer.checkpointer.model, trainer.ema.model
    assert not torch.equal(raw.out.weight, averaged.out.weight)
    assert trainer.test(trainer.cfg, averaged)["toy"]["error"] == results["toy"]["error"]
    assert trainer.test(trainer.cfg, raw)["toy"]["error"] != results["toy"]["error"]


def test_without_average_the_model_itself_is_evaluated(toy_config):
    cfg = toy_config("train.ema.enabled=false")
    trainer, _ = run(cfg)
    assert trainer.eval_model is trainer.checkpointer.model
    assert "ema" not in saved(cfg, "model_final")


def test_checkpoint_has_all_parts_and_no_objects(toy_config):
    cfg = toy_config()
    cfg.optimizer.betas = (0.8, 0.99)  # the optimizer receives omegaconf's list
    trainer, _ = run(cfg)
    path = Path(cfg.train.output_dir) / "model_final.pth"
    data = torch.load(path, weights_only=True)
    assert data.keys() == {"model", "trainer", "ema", "iteration"}
    assert data["iteration"] == data["trainer"]["iteration"] == 11
    assert data["ema"]["updates"] == 10560 + 12
    assert list(data["trainer"]["_trainer"]["optimizer"]["param_groups"][0]["betas"]) == [0.8, 0.99]
    assert torch.equal(data["model"]["out.weight"], trainer.checkpointer.model.out.weight)


def test_initial_weights_are_the_averaged_ones_of_the_file(toy_config):
    run(toy_config(output="first"))
    first = toy_config(output="first")
    path = f"{first.train.output_dir}/model_final.pth"
    trainer = Trainer(toy_config(f"train.init_checkpoint={path}", output="second"))
    trainer.resume_or_load(resume=True)  # the output folder has nothing to resume
    averaged = saved(first, "model_final")["ema"]["model"]["out.weight"]
    assert torch.equal(trainer.checkpointer.model.out.weight, averaged)
    assert torch.equal(trainer.ema.model.out.weight, averaged)
    assert trainer.start_iter == 0 and trainer.ema.updates == 10560


def test_max_to_keep_applies_across_a_resume(toy_config):
    keep = ("train.checkpointer.period=2", "train.checkpointer.max_to_keep=2")
    run(toy_config(*keep, "train.max_iter=6"))
    cfg = toy_config(*keep, "train.max_iter=10")
    run(cfg, resume=True)
    files = {path.name for path in Path(cfg.train.output_dir).glob("*.pth")}
    assert files == {"model_0000007.pth", "model_0000009.pth", "model_final.pth"}


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_on_the_cpu(toy_config, dtype):
    cfg = toy_config("train.amp.enabled=true", f"train.amp.dtype={dtype}", "train.max_iter=6")
    trainer = Trainer(cfg)
    dtypes = []
    trainer.checkpointer.model.net[0].register_forward_hook(lambda m, i, o: dtypes.append(o.dtype))
    trainer.train()
    assert dtypes[0] == getattr(torch, dtype)
    scaler = saved(cfg, "model_final")["trainer"]["_trainer"]["grad_scaler"]
    assert (scaler != {}) == (dtype == "float16")
    # It resumes in another precision: with a new scaler, or without one.
    other = {"bfloat16": "float16", "float16": "bfloat16"}[dtype]
    run(toy_config("train.amp.enabled=true", f"train.amp.dtype={other}"), resume=True)


def test_unknown_precision(toy_config):
    with pytest.raises(ValueError, match="'int8'.*'bfloat16' or 'float16'"):
        Trainer(toy_config("train.amp.enabled=true", "train.amp.dtype=int8"))


def test_resume_refuses_another_model(toy_config):
    cfg = toy_config()
    run(cfg)
    path = Path(cfg.train.output_dir) / "model_final.pth"
    data = torch.load(path, weights_only=True)
    data["model"]["extra.weight"] = data["model"].pop("out.weight")
    torch.save(data, path)
    with pytest.raises(ValueError, match=r"out.weight[\s\S]*extra.weight"):
        Trainer(cfg).resume_or_load(resume=True)
    torch.save({"model": {}, "iteration": 3}, path)
    with pytest.raises(ValueError, match="no trainer and no ema"):
        Trainer(cfg).resume_or_load(resume=True)


def test_learning_rate_continues_after_a_resume(toy_config):
    run(toy_config("train.max_iter=2"))
    cfg = toy_config()
    run(cfg, resume=True)
    rates = {line["iteration"]: line["lr"] for line in metrics_of(cfg) if "lr" in line}
    # The first two are of a training of 2 iterations, which has a shorter warm-up.
    expected = [1e-3 + (1 - 1e-3) * min(i / 4, 1) for i in range(12)]
    for iteration in range(2, 12):
        assert math.isclose(rates[iteration], 1e-2 * expected[iteration], rel_tol=1e-9)


def test_a_later_leg_starts_at_its_iteration(toy_config, tmp_path):
    """Learning rate and data are those of the iteration, and a resume within the leg is exact."""
    first = toy_config("train.max_iter=6")
    run(first)
    weights = f"{first.train.output_dir}/model_final.pth"
    leg = (f"train.init_checkpoint={weights}", "train.start_iter=6")
    cfg = toy_config(*leg, f"train.output_dir={tmp_path / 'leg'}")
    trainer, _ = run(cfg)
    rates = {line["iteration"]: line["lr"] for line in metrics_of(cfg) if "lr" in line}
    assert rates == {i: pytest.approx(1e-2) for i in range(6, 12)}
    assert trainer.checkpointer.model.seen == [list(range(8 * i, 8 * i + 8)) for i in range(6, 12)]
    cut = toy_config(*leg, f"train.output_dir={tmp_path / 'cut'}", "train.checkpointer.period=9")
    stopped = Trainer(cut)
    stopped.resume_or_load(resume=True)
    stopped.max_iter = 9
    stopped.train()
    resumed, _ = run(cut, resume=True)
    assert resumed.start_iter == 9
    for key, value in trainer.checkpointer.model.state_dict().items():
        assert torch.equal(value, resumed.checkpointer.model.state_dict()[key]), key


@pytest.mark.parametrize("start", [-1, 12])
def test_a_leg_beyond_the_schedule(toy_config, start):
    with pytest.raises(ValueError, match=f"train.start_iter is {start}: it must be at least 0"):
        Trainer(toy_config(f"train.start_iter={start}")).resume_or_load(resume=False)


@pytest.mark.parametrize(
    ("was_trained", "resume", "is_logged"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_a_new_training_in_a_folder_with_checkpoints_is_logged(
    toy_config, caplog, was_trained, resume, is_logged
):
    cfg = toy_config("train.max_iter=2")
    if was_trained:
        Trainer(cfg).train()
    caplog.clear()
    Trainer(cfg).resume_or_load(resume=resume)
    assert ("checkpoints of another training" in caplog.text) == is_logged


def test_random_numbers_follow_from_seed_and_iteration(toy_config):
    class Draw(HookBase):
        def __init__(self):
            self.drawn = []

        def before_step(self):
            self.drawn.append(torch.rand(1).item())

    def draws(*overrides):
        hook = Draw()
        trainer = Trainer(toy_config("train.max_iter=3", *overrides))
        trainer.register_hooks([hook])
        trainer.train()
        return hook.drawn

    first = draws("train.seed=1")
    assert first == draws("train.seed=1")
    assert len(set(first)) == 3
    assert not set(first) & set(draws("train.seed=2"))
    assert draws("train.seed=-1") != draws("train.seed=-1")


def test_storage_is_closed_after_a_failure(toy_config):
    with pytest.raises(FloatingPointError):
        Trainer(toy_config("model.nan_at=[0]", "train.max_skipped_steps=0")).train()
    assert not has_event_storage()
    with EventStorage():
        assert has_event_storage()
