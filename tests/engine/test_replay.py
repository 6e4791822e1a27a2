"""What a training keeps when it stops for a number that is not finite, and running it again."""

import importlib.util
from pathlib import Path

import pytest
import torch

from fsdbev.checkpoint import read_checkpoint, write_checkpoint
from fsdbev.d2.structures import Instances
from fsdbev.engine import Trainer, load_config
from fsdbev.engine.replay import _plain, _restored, replay
from fsdbev.structures import Boxes3D

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
    """Left by a training whose iteration 2 met an infinite sample."""
    cfg = toy_config("dataloader.train.infinite=[20]", "train.max_skipped_steps=0")
    trainer = Trainer(cfg)
    with pytest.raises(FloatingPointError, match=r"tools/replay_step.py \S+stopped_at_0000002"):
        trainer.train()
    return Path(cfg.train.output_dir) / "stopped_at_0000002"


def test_the_record_has_all_that_the_iteration_needs(record):
    assert sorted(p.name for p in record.iterdir()) == ["config.yaml", "rank0.pth"]
    kept = read_checkpoint(str(record / "rank0.pth"))["step"]
    assert [sample["sample_token"] for sample in kept["batch"]][4] == "sample-20"
    assert kept["seed"] == 0 and "loss_main is nan" in kept["problem"]


def test_it_says_what_was_not_finite_first(record, tool, capsys):
    assert tool.main([str(record), "--config-file", str(TOY), "train.device=cpu"]) == 0
    out = capsys.readouterr().out
    assert "iteration 2, rank 0" in out and "loss_main   was nan, is nan" in out
    assert "the output of net.0 in net\n" in out


@pytest.mark.parametrize("wrong", ["no such rank", "no record"])
def test_what_is_no_record_is_refused(record, tool, capsys, wrong):
    if wrong == "no record":
        write_checkpoint({"model": {}}, str(record / "rank0.pth"))
    rank = "5" if wrong == "no such rank" else "0"
    assert tool.main([str(record), "--rank", rank, "--config-file", str(TOY)]) == 1
    expected = "rank5.pth' does not exist" if rank == "5" else "is a checkpoint, but no record"
    assert expected in capsys.readouterr().err


def test_an_iteration_of_the_model_comes_out_the_same(synthetic_root, tmp_path):
    overrides = [
        f"dataloader.dataroot={synthetic_root}",
        f"train.output_dir={tmp_path}",
        "dataloader.image_size=[64,176]",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=0",
        "dataloader.evaluator=null",
        "train.amp.enabled=true",
        "train.device=cpu",
        "train.max_iter=2",
        "train.max_skipped_steps=0",
    ]
    trainer = Trainer(load_config(str(TINY), overrides))
    model, calls = trainer.checkpointer.model, []

    def spoil(module, inputs, losses):
        calls.append({name: float(loss.detach()) for name, loss in losses.items()})
        return {**losses, "loss_extra": losses["loss_depth"] * float("nan")}

    model.register_forward_hook(spoil)
    with pytest.raises(FloatingPointError, match="loss_extra is nan at iteration 0"):
        trainer.train()
    record = tmp_path / "stopped_at_0000000"
    again = replay(record, load_config(str(record / "config.yaml")))
    assert again.losses == calls[0] and again.first_bad == []
    assert {name: again.recorded[name] for name in calls[0]} == calls[0]


def test_a_sample_survives_the_file(tmp_path, caplog):
    boxes = Instances(
        (4, 6), gt_boxes_3d=Boxes3D(torch.rand(2, 9)), gt_classes=torch.tensor([1, 2])
    )
    sample = {"images": torch.ones(2), "names": ["a", "b"], "instances": boxes, "odd": object()}
    path = str(tmp_path / "a.pth")
    write_checkpoint({"model": {}, "sample": _plain(sample)}, path)
    back = _restored(read_checkpoint(path)["sample"])
    assert back["names"] == ["a", "b"] and back["instances"].image_size == (4, 6)
    assert torch.equal(back["instances"].gt_boxes_3d.tensor, boxes.gt_boxes_3d.tensor)
    assert torch.equal(back["instances"].gt_classes, boxes.gt_classes)
    assert "object in a sample is kept as text" in caplog.text
