"""report.html: its contents equal the metrics, and its errors do not affect an evaluation."""

import dataclasses
import json
import logging
import re
from html import unescape
from pathlib import Path

import pytest
import torch

from fsdbev.config import load_config
from fsdbev.config.difference import Change
from fsdbev.d2.config import instantiate
from fsdbev.d2.structures import Instances
from fsdbev.data.dataset import FrameDataset
from fsdbev.engine import Trainer, evaluate
from fsdbev.evaluation import NuScenesEvaluator, nuscenes_truth
from fsdbev.evaluation.nuscenes_truth import nuscenes_task
from fsdbev.inference.model_builder import build_model
from fsdbev.report import Evaluated, ReportSource, writer
from fsdbev.report.writer import write_report
from fsdbev.structures import NUSCENES_CLASSES
from fsdbev.visualization import true_boxes

CLASSES = nuscenes_task(NUSCENES_CLASSES).names
TINY = Path(__file__).resolve().parents[2] / "configs" / "fsdbev_tiny_synthetic.py"
EVIL = "<script>alert('x')</script>"


def make_config(data, output):
    return load_config(
        str(TINY),
        [
            f"dataloader.dataroot={data}",
            f"train.output_dir={output}",
            "train.report.samples=1",
        ],
    )


@pytest.fixture
def cfg(synthetic_root, tmp_path):
    return make_config(synthetic_root, tmp_path)


def scored(cfg, keep=lambda number: number % 4):
    """Evaluates slightly displaced ground truth without every fourth box."""
    dataset: FrameDataset = instantiate(cfg.dataloader.test.dataset)
    evaluator = instantiate(cfg.dataloader.evaluator)
    torch.manual_seed(0)
    for row in range(len(dataset)):
        frame, true = dataset.index[row], true_boxes(dataset.index.annotations(row))
        kept = [number for number in range(len(true)) if keep(number)]
        instances = Instances((1, 1))
        instances.pred_boxes_3d = true.boxes[torch.tensor(kept, dtype=torch.int64)]
        instances.pred_boxes_3d.tensor[:, :2] += 0.4 * torch.randn(len(kept), 2)
        instances.scores = torch.linspace(0.9, 0.2, len(kept))
        instances.pred_classes = true.labels[kept]
        sample = {
            "sample_token": frame.sample_token,
            "ego2global": torch.tensor(frame.ego2global)[None],
            "reference_camera": frame.reference_camera,
        }
        evaluator.process([sample], [{"instances": instances}])
    return Evaluated(evaluator.evaluate(), [evaluator], dataset)


def written(cfg):
    return (Path(cfg.train.output_dir) / "report.html").read_text()


def rows_of(page, caption):
    """Returns the cells of the table with this caption as text."""
    table = re.search(rf"<caption>{caption}</caption>(.*?)</table>", page, re.DOTALL)[1]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    return [[unescape(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r)] for r in rows]


@pytest.fixture(scope="module")
def evaluated(synthetic_root, tmp_path_factory):
    return scored(make_config(synthetic_root, tmp_path_factory.mktemp("evaluated")))


@pytest.fixture(scope="module")
def page(synthetic_root, tmp_path_factory, evaluated):
    cfg = make_config(synthetic_root, tmp_path_factory.mktemp("page"))
    changes = [Change("train.max_iter", "700", "5")]
    source = ReportSource(str(TINY), ["train.max_iter=5"], changes, "base.py", "the weights")
    write_report(cfg, source, evaluated)
    return written(cfg)


def test_metrics_and_sections_of_the_page(page, evaluated):
    metrics = evaluated.results["nuscenes"]
    values = re.findall(r'class="name">(\w+)</span>\s*<span class="value">([\d.]+)<', page)
    assert 0.1 < metrics["mAP"] < 0.9
    assert dict(values) == {
        name: f"{metrics[name]:.4f}"
        for name in ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")
    }
    head, *rows = rows_of(page, "Precision and errors by class")
    assert head[:3] == ["class", "ground-truth boxes", "AP"] and len(rows) == len(CLASSES) + 1
    for name, row in zip(CLASSES, rows, strict=False):
        assert row[0] == name.replace("_", " ") and row[2] == f"{metrics[f'AP_{name}']:.3f}"
    assert rows[-1][2] == f"{metrics['mAP']:.3f}"
    for row in rows:  # AP is the mean over the distances
        assert sum(map(float, row[3:7])) / 4 == pytest.approx(float(row[2]), abs=1e-3)
    anchors = "classes distance curves errors scores confusion samples config environment"
    for anchor in anchors.split():
        assert f'<section id="{anchor}"' in page and f'href="#{anchor}"' in page
    assert "the weights" in page and "v1.0-synth" in page and "synth_val" in page
    assert str(TINY) in page
    assert ["train.max_iter", "5"] in rows_of(page, "Overrides of the command line")
    assert ["train.max_iter", "700", "5"] in rows_of(page, "Difference from base.py")
    assert page.count("data:image/jpeg") == 2 and len(page) < 6e6
    assert not re.search(r"https?://|<script", page)


def test_bands_and_confusion_count_all_true_boxes(page):
    total = int(rows_of(page, "Precision and errors by class")[-1][1])
    *bands, everything = rows_of(page, "All classes by distance")[1:]
    assert sum(int(row[1]) for row in bands) == int(everything[1]) == total > 20
    table = rows_of(page, "Boxes by true and predicted class")[1:-1]
    cells = [cell for row in table for cell in row[1:]]
    assert sum(int(cell) for cell in cells if cell != "·") == total


def test_counts_of_the_worst_samples(page):
    samples = page[page.index('<section id="samples"') :]
    assert samples.index("<h3>Worst</h3>") < samples.index("<h3>Best</h3>")
    lines = r"Found (\d+) of (\d+) ground-truth boxes\.</p>\s*<p>Missed: (\d+) \("
    found, true, missed = map(int, re.search(lines, samples).groups())
    assert missed == true - found > 0


def test_names_are_escaped_and_a_missing_image_only_affects_its_picture(
    cfg, evaluated, monkeypatch, tmp_path
):
    original = NuScenesEvaluator.scored_detections

    def renamed(self):
        result = original(self)
        return dataclasses.replace(result, scene_names=[EVIL] * len(result.scene_names))

    monkeypatch.setattr(NuScenesEvaluator, "scored_detections", renamed)
    moved = dataclasses.replace(evaluated.dataset, dataroot=tmp_path / "gone")
    changes = [Change(f"key.{EVIL}", EVIL, EVIL)]
    source = ReportSource(f"{EVIL}.py", [f"{EVIL}={EVIL}"], changes, EVIL, EVIL)
    write_report(cfg, source, dataclasses.replace(evaluated, dataset=moved))
    page = written(cfg)
    assert "<script" not in page and page.count("&lt;script&gt;") > 5
    assert "There is no picture" in page and "data:image" not in page.partition("</head>")[2]


def test_a_class_without_true_boxes_is_named(cfg, monkeypatch):
    original = nuscenes_truth.read_truth

    def read_truth(*arguments):
        truth = original(*arguments)
        others = truth.boxes.select(truth.boxes.class_id != CLASSES.index("bus"))
        return dataclasses.replace(truth, boxes=others)

    monkeypatch.setattr(nuscenes_truth, "read_truth", read_truth)
    write_report(cfg, ReportSource(), scored(cfg))
    page = written(cfg)
    assert "There are no ground-truth boxes of: bus." in page
    row = rows_of(page, "Precision and errors by class")[1 + CLASSES.index("bus")]
    assert row[1:4] == ["0", "0.000", "0.000"] and row[-1] == "1.000"
    assert page.count("no ground truth<") == 1  # below its curve


def test_no_predictions_and_no_frame_index(cfg, caplog):
    empty = scored(cfg, keep=lambda number: False)
    write_report(cfg, ReportSource(), dataclasses.replace(empty, dataset=None))
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
    page = written(cfg)
    assert rows_of(page, "All classes by distance")[-1][3:] == ["0 %", "0 %"]
    assert "F1 0.00" in page and "There are no pictures" in page and "<img" not in page


@pytest.fixture
def toy(toy_config):
    """Returns a config and a model whose evaluator has no detections: toy(*overrides)."""

    def make(*overrides):
        cfg = toy_config(*overrides)
        Path(cfg.train.output_dir).mkdir(exist_ok=True)
        return cfg, build_model(cfg)

    return make


def test_any_evaluator_gets_a_page_of_its_metrics(toy):
    cfg, model = toy()
    results = evaluate(cfg, model, report=ReportSource())
    page = written(cfg)
    assert "The command line changed nothing" in page and "Difference from" not in page
    rows = rows_of(page, "Metrics")
    assert ["toy/error", f"{results['toy']['error']:.4f}"] in rows
    assert ["toy/never", "–"] in rows  # NaN


def test_only_the_last_evaluation_of_a_training_writes_it(toy, monkeypatch):
    calls = []
    monkeypatch.setattr(writer, "write_report", lambda *args: calls.append(args))
    cfg, _ = toy("train.max_iter=4", "train.eval_period=2")
    Trainer(cfg, ReportSource("some.py", ["a=1"])).train()
    ((_, source, _),) = calls
    weights = "averaged weights after iteration 4 of training"
    assert source == ReportSource("some.py", ["a=1"], weights=weights)


def test_a_report_is_only_written_if_requested(toy):
    cfg, model = toy()
    evaluate(cfg, model)
    other, _ = toy("train.report.enabled=false")
    evaluate(other, model, report=ReportSource())
    del cfg.train["report"]  # a config of a version without reports
    evaluate(cfg, model, report=ReportSource())
    assert not (Path(cfg.train.output_dir) / "report.html").exists()


def test_errors_of_the_report_do_not_affect_the_evaluation(toy, monkeypatch, caplog):
    def fail(page):
        raise RuntimeError("no page")

    cfg, model = toy()
    path = Path(cfg.train.output_dir) / "report.html"
    path.write_text("of an earlier evaluation")
    monkeypatch.setattr(writer, "render_page", fail)
    results = evaluate(cfg, model, report=ReportSource())
    assert results["toy"]["count"] == 5
    saved = json.loads((Path(cfg.train.output_dir) / "evaluation.json").read_text())
    assert saved["toy"]["count"] == 5
    (error,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "the metrics are not affected" in error.getMessage() and error.exc_info
    assert not path.exists()


def test_without_annotations_there_is_no_report(toy, caplog):
    cfg, _ = toy()
    path = Path(cfg.train.output_dir) / "report.html"
    path.write_text("of an earlier evaluation")
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        write_report(cfg, ReportSource(), Evaluated({}, [], None))
    assert not path.exists() and "there is no report.html" in caplog.text
