"""Evaluation of a config: streaming gives the same boxes; when the devkit runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_training import ToyEvaluator

from fsdbev.config import load_config
from fsdbev.config.overrides import apply_overrides
from fsdbev.d2.config import LazyCall as L, LazyConfig, instantiate
from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.engine import Trainer
from fsdbev.engine.evaluate_model import evaluate
from fsdbev.engine.main import evaluate_only
from fsdbev.inference.streaming import StreamingPredictor

TINY = Path(__file__).parents[2] / "configs/fsdbev_tiny_synthetic.py"


class Boxes(DatasetEvaluator):
    """Evaluator that keeps the instances; its metric is the number of boxes."""

    found: dict = {}

    def reset(self):
        Boxes.found = {}

    def process(self, inputs, outputs):
        for sample, output in zip(inputs, outputs, strict=True):
            Boxes.found[sample["sample_token"]] = output["instances"]

    def evaluate(self):
        return {"boxes": {"count": sum(map(len, Boxes.found.values()))}}


@pytest.fixture
def config(synthetic_root, tmp_path):
    """Returns the tiny config on the three frames of synth_val: config(*overrides)."""

    def make(*overrides):
        cfg = apply_overrides(
            LazyConfig.load(str(TINY)),
            [
                f"dataloader.dataroot={synthetic_root}",
                "dataloader.image_size=[64,112]",
                "dataloader.test.num_workers=0",
                "model.head.score_threshold=0.0",
                "model.head.max_candidates=50",
                f"train.output_dir={tmp_path}",
                *overrides,
            ],
        )
        cfg.dataloader.evaluator = L(Boxes)()
        return cfg

    return make


def run(cfg):
    """Evaluates with seeded weights; returns boxes by sample token and the backbone's batches."""
    torch.manual_seed(0)
    model, batches = instantiate(cfg.model), []
    model.backbone.register_forward_hook(lambda m, args, out: batches.append(len(args[0]) // 6))
    results = evaluate(cfg, model)
    assert model.training  # its mode is restored
    assert results["boxes"]["count"] > 100
    return Boxes.found, batches


@pytest.mark.parametrize(
    ("overrides", "batches"),
    [
        (("dataloader.test.by_scene=True",), [1, 1, 1]),
        (("dataloader.test.batch_size=2",), [2, 1]),
        (("model.num_frames=3", "dataloader.frame_spacing=2"), [1, 1, 1]),
    ],
)
def test_the_same_boxes_in_fewer_passes(config, overrides, batches):
    streamed, passes = run(config(*overrides))
    plain, all_passes = run(config(*overrides, "train.eval_streaming=False"))
    assert passes == batches and sum(all_passes) >= 2 * sum(batches)
    assert streamed.keys() == plain.keys() and len(plain) == 3
    for token, expected in plain.items():
        found = streamed[token]
        assert torch.equal(found.pred_classes, expected.pred_classes)
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            found.pred_boxes_3d.tensor, expected.pred_boxes_3d.tensor, rtol=1e-3, atol=1e-3
        )


def test_a_gap_in_time(config, synthetic_root, tmp_path, caplog):
    """The last of three samples is 61.5 s later: streaming replaces its earlier frame as well."""
    before = FrameIndex(synthetic_root / "fsdbev/v1.0-synth/synth_val.arrow")
    rows = [(frame, before.annotations(row)) for row, frame in enumerate(before)]
    late = replace(rows[2][0], timestamp=rows[2][0].timestamp + 61_500_000)
    index = tmp_path / "index" / "synth_val.arrow"
    write_index(index, [*rows[:2], (late, rows[2][1])], before.classes, {})
    found = {}
    for streaming in (True, False):
        overrides = f"dataloader.index_dir={index.parent}", f"train.eval_streaming={streaming}"
        found[streaming] = run(config(*overrides))[0][late.sample_token].pred_boxes_3d.tensor
    torch.testing.assert_close(found[True], found[False], rtol=1e-3, atol=1e-3)
    assert "1 of 3 samples lack an earlier frame" in caplog.text
    with_gap = run(config(*overrides, "dataloader.max_frame_gap=inf"))[0][late.sample_token]
    assert not torch.equal(with_gap.pred_boxes_3d.tensor, found[False])


def test_the_frame_spacing_reaches_the_predictor(config, monkeypatch):
    spacings = []

    class Recording(StreamingPredictor):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            spacings.append(self.frame_spacing)

    monkeypatch.setattr("fsdbev.engine.evaluate_model.StreamingPredictor", Recording)
    run(config("dataloader.frame_spacing=2"))
    assert spacings == [2]


def test_other_models_are_evaluated_without_streaming(config, tmp_path):
    class FiveBoxes(nn.Module):
        def forward(self, batched_inputs):
            return [{"instances": range(5)} for _ in batched_inputs]

    evaluate(config(), FiveBoxes())
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"boxes": {"count": 15}}


class OfficialEvaluator(ToyEvaluator):
    """Evaluator that records ``official``, as of NuScenesEvaluator, at each evaluation."""

    recorded: list = []

    def __init__(self, official):
        self.official = official

    def evaluate(self):
        OfficialEvaluator.recorded.append(self.official)
        return super().evaluate()


@pytest.mark.parametrize(
    ("official", "expected"),
    [("auto", [True, False]), (True, [True, True]), (False, [False, False])],
)
def test_the_devkit_runs_where_the_evaluation_stands_alone(toy_config, official, expected):
    cfg = toy_config("train.max_iter=1", "train.eval_period=1")
    Path(cfg.train.output_dir).mkdir()
    cfg.dataloader.evaluator = L(OfficialEvaluator)(official=official)
    OfficialEvaluator.recorded.clear()
    evaluate_only(cfg, last=False)
    Trainer(cfg).train()
    assert OfficialEvaluator.recorded == expected


@pytest.mark.parametrize("value", [True, False])
def test_official_can_be_set_on_the_command_line(value):
    overrides = ["dataloader.evaluator.dataset=null", f"dataloader.evaluator.official={value}"]
    cfg = load_config(str(TINY), overrides)
    assert instantiate(cfg.dataloader.evaluator).official is value
