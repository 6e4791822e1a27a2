"""What users add to a training by its config: hooks, a trainer of their own, evaluators."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from toy_training import ToyEvaluator, ToyModel

from fsdbev.d2.config import LazyCall as L, LazyConfig, instantiate
from fsdbev.d2.engine import HookBase
from fsdbev.d2.evaluation import DatasetEvaluators
from fsdbev.d2.utils.events import get_event_storage
from fsdbev.engine import Trainer, evaluate, run
from fsdbev.engine.main import evaluate_only, find_trainer
from fsdbev.evaluation import NuScenesEvaluator
from fsdbev.inference.model_builder import build_model
from fsdbev.report import Evaluated, ReportSource, writer as report_writer

CONFIG = Path(__file__).parent / "toy_config.py"


class Recorder(HookBase):
    """Hook that logs a scalar and records the norm of a weight's gradient; its state is a count."""

    def __init__(self, factor=1.0):
        self.factor, self.steps, self.norms = factor, 0, []

    def after_backward(self):
        self.norms.append(self.trainer.model.out.weight.grad.norm().item())

    def after_step(self):
        self.steps += 1
        value = self.factor * self.trainer.iter
        get_event_storage().put_scalar("recorded", value, smoothing_hint=False)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class OwnTrainer(Trainer):
    """Trainer that overrides methods of three kinds."""

    @classmethod
    def build_model(cls, cfg):
        model = super().build_model(cfg)
        model.is_own = True
        return model

    @classmethod
    def build_evaluator(cls, cfg, dataset_name=None):
        return DatasetEvaluators([super().build_evaluator(cfg), CountEvaluator(name="own")])

    def build_hooks(self):
        self.recorder = Recorder()
        return [*super().build_hooks(), self.recorder]


class CountEvaluator(ToyEvaluator):
    """Evaluator of a second task, with ``official`` as of NuScenesEvaluator."""

    def __init__(self, name="count", official="auto"):
        self.name, self.official = name, official

    def evaluate(self):
        official = {"auto": -1, True: 1, False: 0}[self.official]
        return {self.name: {"samples": len(self.errors), "official": official}}


@dataclass
class DataclassEvaluator(CountEvaluator):
    """Evaluator that omegaconf's lists turn into a mapping."""

    name: str
    official: str = "auto"


@pytest.fixture
def toy(toy_config):
    """Returns a toy config with an existing output folder: toy(*overrides)."""

    def make(*overrides):
        cfg = toy_config("train.max_iter=3", *overrides)
        Path(cfg.train.output_dir).mkdir(exist_ok=True)
        return cfg

    return make


def recorder_of(trainer):
    (hook,) = (hook for hook in trainer._hooks if isinstance(hook, Recorder))
    return hook


def test_hooks_of_the_config_run_before_the_writers(toy):
    cfg = toy()
    cfg.train.hooks = [L(Recorder)(factor=2.0)]
    trainer = Trainer(cfg)
    trainer.train()
    lines = (Path(cfg.train.output_dir) / "metrics.json").read_text().splitlines()
    recorded = {d["iteration"]: d["recorded"] for d in map(json.loads, lines) if "lr" in d}
    assert recorded == {0: 0.0, 1: 2.0, 2: 4.0}
    assert recorder_of(trainer).steps == 3
    # Its state is in the checkpoint, which is saved before the last after_step.
    resumed = Trainer(cfg)
    resumed.resume_or_load(resume=True)
    assert recorder_of(resumed).steps == 2


@pytest.mark.parametrize("hooks", [L(Recorder)(), [L(Recorder)(), L(ToyEvaluator)()], "Recorder"])
def test_other_values_of_hooks_are_errors(toy, hooks):
    cfg = toy()
    cfg.train.hooks = hooks
    with pytest.raises(ValueError, match="train.hooks is .*list of hooks"):
        Trainer(cfg)


@pytest.mark.parametrize("dtype", [None, "float16"])
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_after_backward_sees_the_gradients_before_clipping(toy, dtype):
    amp = ("train.amp.enabled=true", f"train.amp.dtype={dtype}") if dtype else ()
    cfg = toy(*amp, "train.clip_grad.max_norm=1e-6", "train.max_iter=12")
    cfg.train.hooks = [L(Recorder)()]
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.train()
    # Neither clipped nor multiplied by the loss scale. A large scale may exceed float16 at first.
    norm = recorder_of(trainer).norms[-1]
    assert 1e-3 < norm < 100
    assert trainer.model.out.weight.grad.norm() <= 1e-6


def test_after_backward_can_change_the_gradients(toy):
    class ZeroGradients(HookBase):
        def after_backward(self):
            for parameter in self.trainer.model.parameters():
                parameter.grad.zero_()

    cfg = toy("optimizer.weight_decay=0.0")
    trainer = Trainer(cfg)
    trainer.register_hooks([ZeroGradients()])
    before = trainer.model.out.weight.detach().clone()
    trainer.train()
    assert torch.equal(trainer.model.out.weight, before)


def test_trainer_of_a_config_trains_and_evaluates(toy):
    cfg = toy("train.ema.enabled=false")
    cfg.train.trainer = OwnTrainer
    assert find_trainer(cfg) is OwnTrainer
    trainer = find_trainer(cfg)(cfg)
    results = trainer.train()
    assert trainer.model.is_own and trainer.recorder.steps == 3
    assert results["toy"]["count"] == 5 and results["own"] == {"samples": 5, "official": 0}
    cfg.train.init_checkpoint = f"{cfg.train.output_dir}/model_final.pth"
    evaluated = evaluate_only(cfg, last=False)
    assert evaluated["toy"]["error"] == results["toy"]["error"]
    assert evaluated["own"] == {"samples": 5, "official": 1}


TRAINER = """
import pathlib

import fsdbev.engine

class NamedTrainer(fsdbev.engine.Trainer):
    def train(self):
        (pathlib.Path(self.cfg.train.output_dir) / "trained_by_it").touch()
        return super().train()
"""


@pytest.fixture
def trainer_module(tmp_path, monkeypatch):
    """The module ``trainer_of_test`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "trainer_of_test.py").write_text(TRAINER)
    yield
    sys.modules.pop("trainer_of_test", None)


def test_command_line_names_a_trainer_of_a_plugin(trainer_module, tmp_path):
    arguments = ["--config-file", str(CONFIG), "train.max_iter=1", "train.ema.enabled=false"]
    plugin = "train.plugins=[trainer_of_test]"
    run([*arguments, plugin, "train.trainer=trainer_of_test.NamedTrainer"])
    assert (tmp_path / "output" / "trained_by_it").exists()
    saved = LazyConfig.load(str(tmp_path / "output" / "config.yaml"))
    assert saved.train.trainer == "trainer_of_test.NamedTrainer"


def test_a_class_is_saved_by_its_name(trainer_module, tmp_path):
    """Detectron2 would save a class as a tag, which a YAML config may not have."""
    (tmp_path / "config.py").write_text(
        "import trainer_of_test\nfrom fsdbev.d2.config import LazyConfig\n"
        f"cfg = LazyConfig.load({str(CONFIG)!r})\n"
        "dataloader, lr_multiplier, model, optimizer, train = (cfg[key] for key in sorted(cfg))\n"
        "train.trainer = trainer_of_test.NamedTrainer\ndel cfg\n"
    )
    run(["--config-file", "config.py", "train.max_iter=1", "train.ema.enabled=false"])
    saved = LazyConfig.load("output/config.yaml")
    assert saved.train.trainer == "trainer_of_test.NamedTrainer"


@pytest.mark.parametrize(
    "name", ["trainer_of_test.NamedTrainer", "os.system", "fsdbev.engine.run", "Trainer", "a.b.C"]
)
def test_a_name_imports_and_calls_nothing(trainer_module, capsys, name):
    arguments = ["--config-file", str(CONFIG), f"train.trainer={name}"]
    with pytest.raises(SystemExit):
        run(arguments)
    message = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert f"train.trainer is '{name}': it must be a subclass of fsdbev.engine.Trainer" in message
    assert "train.plugins" in message and "trainer_of_test" not in sys.modules


@pytest.mark.parametrize("value", [ToyModel, 3, HookBase])
def test_other_values_of_trainer_are_errors(toy, value):
    cfg = toy()
    cfg.train.trainer = value
    with pytest.raises(ValueError, match="train.trainer is .*subclass of fsdbev.engine.Trainer"):
        evaluate_only(cfg, last=False)


def test_without_a_trainer_in_the_config_it_is_that_of_the_project(toy):
    cfg = toy()
    assert cfg.train.trainer is None and find_trainer(cfg) is Trainer
    del cfg.train.trainer  # a config of version 0.1
    assert find_trainer(cfg) is Trainer


@pytest.mark.parametrize("wrapped", [False, True])
def test_several_evaluators_of_a_config(toy, wrapped):
    cfg = toy("train.eval_period=2")
    second = CountEvaluator if wrapped else DataclassEvaluator
    evaluators = [L(ToyEvaluator)(), L(CountEvaluator)(), L(second)(name="second")]
    cfg.dataloader.evaluator = (
        L(DatasetEvaluators)(evaluators=evaluators) if wrapped else evaluators
    )
    trained = Trainer(cfg).train()
    assert trained["count"] == trained["second"] == {"samples": 5, "official": 0}
    alone = evaluate_only(cfg, last=True)
    assert alone["count"] == alone["second"] == {"samples": 5, "official": 1}
    assert alone["toy"]["error"] == trained["toy"]["error"]
    page = (Path(cfg.train.output_dir) / "report.html").read_text()
    assert all(name in page for name in ("toy/error", "count/samples", "second/official"))


@pytest.mark.parametrize("evaluator", [None, []])
def test_without_an_evaluator_nothing_is_loaded(toy, evaluator):
    cfg = toy()
    cfg.dataloader.evaluator = evaluator
    cfg.dataloader.test = "not built"
    assert evaluate(cfg, build_model(cfg)) == {}


def test_given_evaluators_replace_those_of_the_config(toy):
    cfg = toy("dataloader.evaluator=null")
    model = build_model(cfg)
    for evaluators in (CountEvaluator(), [CountEvaluator()]):
        assert Trainer.test(cfg, model, evaluators).keys() == {"count"}


def test_report_has_detections_and_the_metrics_of_further_evaluators(toy, monkeypatch):
    class Page:
        def __init__(self, **content):
            self.sections = [section.anchor for section in content["sections"]]

    evaluator = NuScenesEvaluator.__new__(NuScenesEvaluator)
    scored = type("Scored", (), {"summary": None, "facts": {}})()
    scored.sample_tokens, scored.scene_names = [], []
    monkeypatch.setattr(NuScenesEvaluator, "scored_detections", lambda self: scored)
    monkeypatch.setattr(report_writer, "Page", Page)
    monkeypatch.setattr(report_writer.sections, "detection_sections", lambda scored: [])
    monkeypatch.setattr(report_writer.sections, "headlines", lambda summary: [])
    samples = report_writer.sections.environment_section()
    monkeypatch.setattr(report_writer, "sample_section", lambda *arguments: samples)
    nuscenes = {"nuscenes": {"mAP": 0.5}}
    for results, expected in ((nuscenes, False), (nuscenes | {"own": {"recall": 0.25}}, True)):
        evaluated = Evaluated(results, [CountEvaluator(), evaluator], None)
        page = report_writer._page(ReportSource(), evaluated, 0, report_writer.datetime.now())
        assert ("metrics" in page.sections) == expected


BUILDERS = {
    "build_model": (),
    "build_optimizer": ("model",),
    "build_lr_scheduler": ("optimizer",),
    "build_train_loader": (),
    "build_test_loader": (),
    "build_evaluator": (),
}


def test_class_methods_of_detectron2_build_from_a_lazy_config(toy):
    cfg = toy()
    model = Trainer.build_model(cfg)
    assert isinstance(model, ToyModel)
    optimizer = Trainer.build_optimizer(cfg, model)
    assert optimizer.param_groups[0]["lr"] == cfg.optimizer.lr
    schedule = Trainer.build_lr_scheduler(cfg, optimizer)
    assert schedule(0.5) == instantiate(cfg.lr_multiplier)(0.5)
    assert Trainer.build_train_loader(cfg).batch_size == 8
    assert len(Trainer.build_test_loader(cfg)) == 5
    assert isinstance(Trainer.build_evaluator(cfg), ToyEvaluator)
    assert Trainer.test(cfg, model)["toy"]["count"] == 5


@pytest.mark.parametrize("method", BUILDERS)
def test_they_refuse_other_configs(method):
    class CfgNode(dict):  # as yacs names it
        pass

    with pytest.raises(ValueError, match=r"LazyConfig, as fsdbev.config.load_config.*CfgNode"):
        getattr(Trainer, method)(CfgNode(), *BUILDERS[method])


def test_what_a_lazy_config_cannot_do_is_an_error(toy):
    cfg = toy()
    for method in (Trainer.build_test_loader, Trainer.build_evaluator):
        with pytest.raises(ValueError, match="one test set.*'coco_val'"):
            method(cfg, "coco_val")
    with pytest.raises(ValueError, match="total_batch_size, optimizer.lr and train.max_iter"):
        Trainer.auto_scale_workers(cfg, 4)
