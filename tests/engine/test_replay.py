"""The recorded iteration of a training that stopped for non-finite numbers, and its replay."""

import importlib.util
from pathlib import Path

import pytest
import torch

from fsdbev.config import load_config
from fsdbev.d2.config import LazyConfig
from fsdbev.engine import Trainer

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "engine" / "toy_config.py"
TINY = ROOT / "configs" / "fsdbev_tiny_synthetic.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "replay_step.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def record(toy_config):
    """Record of a training whose iteration 2 has a sample with infinite values."""
    cfg = toy_config("dataloader.train.infinite=[20]", "train.max_skipped_steps=0")
    trainer = Trainer(cfg)
    with pytest.raises(FloatingPointError, match=r"tools/replay_step.py \S+stopped_at_0000002"):
        trainer.train()
    return Path(cfg.train.output_dir) / "stopped_at_0000002"


def test_it_says_what_was_not_finite_first(record, tool, capsys):
    assert [path.name for path in record.iterdir()] == ["rank0.pth"]
    assert tool.main([str(record), "--config-file", str(TOY), "train.device=cpu"]) == 0
    out = capsys.readouterr().out
    assert "iteration 2, rank 0" in out and "loss_main            was nan, is nan" in out
    assert "not finite first: the output of net.0\n" in out


def test_a_rank_without_a_record_is_refused(record, tool, capsys):
    assert tool.main([str(record), "--rank", "5", "--config-file", str(TOY)]) == 1
    assert "rank5.pth' does not exist" in capsys.readouterr().err


def test_a_record_runs_no_code(record, tool, capsys):
    saved = {"batch": [{"x": Path("x")}], "model": {}}
    torch.save(saved, record / "rank0.pth")
    assert tool.main([str(record), "--config-file", str(TOY)]) == 1
    assert "PosixPath" in capsys.readouterr().err


def test_an_iteration_of_the_model_comes_out_the_same(synthetic_root, tmp_path, tool, capsys):
    overrides = [
        f"dataloader.dataroot={synthetic_root}",
        f"train.output_dir={tmp_path}",
        "dataloader.image_size=[64,176]",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=0",
        "dataloader.train.mapper.camera_dropout=0.4",
        "dataloader.evaluator=null",
        "train.amp.enabled=true",
        "train.device=cpu",
        "train.max_iter=2",
        "train.max_skipped_steps=0",
    ]
    cfg = load_config(str(TINY), overrides)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))  # as by fsdbev.engine.run
    trainer = Trainer(cfg)
    model, recorded = trainer.checkpointer.model, {}

    def spoil(module, inputs, losses):
        assert len({len(sample["image_aug"]) for sample in inputs[0]}) == 2  # numbers of cameras
        recorded.update({name: loss.item() for name, loss in losses.items()})
        return {**losses, "loss_extra": losses["loss_depth"] * float("nan")}

    model.register_forward_hook(spoil)
    with pytest.raises(FloatingPointError, match="loss_extra is nan at iteration 0"):
        trainer.train()
    record = tmp_path / "stopped_at_0000000"
    saved = torch.load(record / "rank0.pth", weights_only=False)
    assert saved["model_settings"]["model.classes"] == model.classes.to_dict()
    assert tool.main([str(record)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(recorded) > 5 and lines[-1] == "not finite first: the output of no module"
    expected = [f"{name:20} was {loss}, is {loss}" for name, loss in recorded.items()]
    assert lines[-1 - len(expected) : -1] == expected  # to the last bit, because repr is exact
