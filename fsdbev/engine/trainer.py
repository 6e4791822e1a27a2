"""The trainer of a LazyConfig."""

from __future__ import annotations

import importlib.util
import logging
import weakref
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import DictConfig
from torch import nn
from torch.utils.data import DataLoader

from fsdbev.checkpoint import TrainingCheckpointer, load_weights
from fsdbev.d2.config import instantiate
from fsdbev.d2.engine import (
    DefaultTrainer,
    HookBase,
    TrainerBase,
    create_ddp_model,
    default_writers,
    hooks,
)
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.events import EventWriter, TensorboardXWriter

from .curves import TrainingCurves
from .ema import ModelEMA
from .evaluation import evaluate
from .hooks import EMAUpdate, IterationSeed, PeriodicCheckpointer, Preemption
from .model import build_model
from .optim import build_optimizer
from .report import ReportSource
from .train_step import TrainStep, autocast_dtype
from .wandb_writer import WandbWriter, wants_wandb

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Detectron2's ``DefaultTrainer``, built from a LazyConfig.

    Args:
        cfg: has ``model``, ``optimizer``, ``lr_multiplier``, ``dataloader.{train, test,
            evaluator}`` and ``train``, as described in ``configs/common/train.py``.
        source: of the config, for the report at the end.
    """

    def __init__(self, cfg: DictConfig, source: ReportSource | None = None) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's own constructor takes a yacs config
        self.cfg = cfg
        self.source = source or ReportSource()
        train = cfg.train
        wants_wandb(train)  # before anything is built
        model = build_model(cfg)
        device = next(model.parameters()).device
        distributed = _distributed(model, device, train.ddp)
        self.ema = _build_ema(train.ema, model)  # after all ranks have got the same weights
        self._trainer = TrainStep(
            distributed,
            instantiate(cfg.dataloader.train),
            build_optimizer(cfg.optimizer, model),
            device=device,
            precision=autocast_dtype(train.amp),
            max_grad_norm=train.clip_grad.max_norm if train.clip_grad.enabled else None,
        )
        self.scheduler = instantiate(cfg.lr_multiplier)
        parts = {"trainer": weakref.proxy(self)} | ({"ema": self.ema} if self.ema else {})
        self.checkpointer = TrainingCheckpointer(model, train.output_dir, **parts)
        self.start_iter, self.max_iter = 0, train.max_iter
        self.results: dict[str, Any] = {}
        self.register_hooks(self.build_hooks())

    @property
    def eval_model(self) -> nn.Module:
        """What is evaluated: the average of the weights, or the model where there is none."""
        return self.ema.model if self.ema else self.checkpointer.model

    def build_hooks(self) -> list[HookBase | None]:
        train = self.cfg.train
        is_main = comm.is_main_process()
        save = PeriodicCheckpointer(self.checkpointer, **train.checkpointer) if is_main else None
        write = hooks.PeriodicWriter(self.build_writers(), train.log_period) if is_main else None
        return [
            hooks.IterationTimer(),
            IterationSeed(train.seed) if train.seed >= 0 else None,
            hooks.LRScheduler(),
            EMAUpdate(self.ema, self.checkpointer.model) if self.ema else None,
            save,
            Preemption(self.checkpointer),
            hooks.EvalHook(train.eval_period, self._evaluate),
            write,
            TrainingCurves(train.output_dir, train.eval_period) if is_main else None,
        ]

    def build_writers(self) -> list[EventWriter]:
        """Console, ``metrics.json``, TensorBoard where it is installed, and Weights & Biases where
        ``train.wandb`` asks for it."""
        train = self.cfg.train
        writers = default_writers(train.output_dir, self.max_iter)
        if importlib.util.find_spec("tensorboard") is None:
            writers = [w for w in writers if not isinstance(w, TensorboardXWriter)]
        if wants_wandb(train):
            options = {key: train.wandb[key] for key in ("project", "name", "mode")}
            writers.append(WandbWriter(train.output_dir, **options))
        return writers

    def resume_or_load(self, resume: bool = True) -> None:
        """Goes on from the last checkpoint of the output folder if there is one and ``resume`` is
        set; else starts from the weights of ``train.init_checkpoint``, or from scratch if that is
        empty."""
        path = self.cfg.train.init_checkpoint
        if resume and self.checkpointer.has_checkpoint():
            self.checkpointer.resume_or_load("", resume=True)
            self.start_iter = self.iter + 1  # the checkpoint has the iteration that was finished
            _start_at(self.data_loader, self.start_iter)
        elif path:
            load_weights(self.checkpointer.model, path, strict=False)
            if self.ema:
                self.ema.reset(self.checkpointer.model)

    def train(self) -> dict[str, Any]:
        """Trains and evaluates; returns the metrics of the last evaluation."""
        TrainerBase.train(self, self.start_iter, self.max_iter)
        return self.results

    def before_train(self) -> None:
        super().before_train()
        self._trainer.start_loading()

    def _evaluate(self) -> dict[str, Any]:
        model = self.eval_model
        if comm.get_world_size() > 1:  # BatchNorm statistics are each rank's own
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)
        report = None
        if self.iter >= self.max_iter:  # the last evaluation, after the loop
            kind = "averaged weights" if self.ema else "weights"
            done = f"after iteration {self.max_iter} of training"
            report = replace(self.source, weights=f"{kind} {done}")
        self.results = self.test(self.cfg, model, report=report)
        return self.results

    @classmethod
    def test(
        cls, cfg: DictConfig, model: nn.Module, *, report: ReportSource | None = None
    ) -> dict[str, Any]:
        return evaluate(cfg, model, report=report)


def _build_ema(cfg: DictConfig, model: nn.Module) -> ModelEMA | None:
    options = {key: value for key, value in cfg.items() if key != "enabled"}
    return ModelEMA(model, **options) if cfg.enabled else None


def _distributed(model: nn.Module, device: torch.device, cfg: DictConfig) -> nn.Module:
    """The model in DistributedDataParallel where there are several processes."""
    device_ids = [torch.cuda.current_device()] if device.type == "cuda" else None
    return create_ddp_model(model, device_ids=device_ids, **cfg)


def _start_at(loader: DataLoader, iteration: int) -> None:
    """Lets a training loader begin with the batch of an iteration, loading none before it.

    Samplers of ``fsdbev.data`` can: ``start`` is their first draw, counted over all ranks.
    """
    sampler = getattr(loader, "sampler", None)
    if hasattr(sampler, "start"):
        sampler.start = iteration * loader.batch_size * comm.get_world_size()
    else:
        logger.warning("The order of the data starts anew: the loader's sampler has no `start`")
