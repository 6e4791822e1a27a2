"""The trainer of a LazyConfig."""

from __future__ import annotations

import importlib.util
import logging
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fsdbev.checkpoint import TrainingCheckpointer, load_weights, read_checkpoint
from fsdbev.d2.config import instantiate
from fsdbev.d2.engine import (
    DefaultTrainer,
    HookBase,
    TrainerBase,
    create_ddp_model,
    default_writers,
    hooks,
)
from fsdbev.d2.structures import Instances
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.events import EventWriter, TensorboardXWriter
from fsdbev.modeling.build import build_model
from fsdbev.report import ReportSource
from fsdbev.structures import Boxes3D
from fsdbev.utils.atomic_write import atomic_write

from .distributed import ThreadDump, wait_for_rank0
from .ema import ModelEMA
from .evaluate import evaluate
from .hooks.checkpointing import CheckpointSaver
from .hooks.curves import TrainingCurves
from .hooks.iteration import EMAUpdate, IterationSeed, ShortHistories, seed_iteration
from .hooks.preemption import Preemption
from .optim import build_optimizer
from .resume import RunFacts, differences
from .train_step import BadNumbersError, TrainStep, autocast_dtype
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
        self._seed = IterationSeed(train.seed if train.seed >= 0 else comm.shared_random_seed())
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
            max_skipped_steps=train.max_skipped_steps,
        )
        self.scheduler = instantiate(cfg.lr_multiplier)
        parts = {"trainer": weakref.proxy(self)} | ({"ema": self.ema} if self.ema else {})
        self.checkpointer = TrainingCheckpointer(model, train.output_dir, **parts)
        self._preemption = Preemption(self.checkpointer)
        age = {"max_age_hours": train.checkpoint_max_age_hours}
        self._saving = CheckpointSaver(self.checkpointer, **train.checkpointer, **age)
        self._first_draw = 0
        self._seed_data()
        self.start_iter, self.max_iter = 0, train.max_iter
        self.results: dict[str, Any] = {}
        self.register_hooks(self.build_hooks())

    @property
    def eval_model(self) -> nn.Module:
        """What is evaluated: the average of the weights, or the model where there is none."""
        return self.ema.model if self.ema else self.checkpointer.model

    @property
    def skipped_step(self) -> bool:
        """Whether the last iteration was skipped, for a number that is not finite."""
        return self._trainer.skipped

    def build_hooks(self) -> list[HookBase | None]:
        train = self.cfg.train
        is_main = comm.is_main_process()
        write = hooks.PeriodicWriter(self.build_writers(), train.log_period) if is_main else None
        return [
            ThreadDump(train.output_dir),
            hooks.IterationTimer(),
            self._seed,
            hooks.LRScheduler(),
            EMAUpdate(self.ema) if self.ema else None,
            self._saving,
            self._preemption,
            hooks.EvalHook(train.eval_period, self._evaluate),
            write,
            TrainingCurves(train.output_dir, train.eval_period) if is_main else None,
            ShortHistories(),
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
        is_there = self.checkpointer.has_checkpoint()
        if resume and is_there:
            self.checkpointer.resume_or_load("", resume=True)
            self.start_iter = self.iter + 1  # the checkpoint has the iteration that was finished
            self._start_data()
            return
        if is_there:
            logger.warning(
                "%s has checkpoints of another training, and this one starts anew: --resume may "
                "go on from those. Better give each training a train.output_dir of its own",
                self.cfg.train.output_dir,
            )
        if path:
            load_weights(self.checkpointer.model, path, strict=False)
            if self.ema:
                self.ema.reset()

    def train(self) -> dict[str, Any]:
        """Trains and evaluates; returns the metrics of the last evaluation."""
        with self._preemption.listening():
            try:
                TrainerBase.train(self, self.start_iter, self.max_iter)
            finally:
                self._trainer.stop_loading()
        return self.results

    def run_step(self) -> None:
        try:
            super().run_step()
        except BadNumbersError as error:
            raise FloatingPointError(self._save_stopped(error)) from error

    def _save_stopped(self, error: BadNumbersError) -> str:
        """Saves this iteration for ``replay`` and a checkpoint from before it; returns the text."""
        folder = Path(self.cfg.train.output_dir) / f"stopped_at_{self.iter:07d}"
        model, rank = self.checkpointer.model.state_dict(), comm.get_rank()
        saved = {"seed": self._seed.seed, "rank": rank, "iteration": self.iter}
        saved |= {"model": model, "batch": error.batch, "losses": error.losses}
        with atomic_write(folder / f"rank{rank}.pth") as file:
            torch.save(saved, file)
        if self.iter > self.start_iter:
            self.iter -= 1  # the last one that was finished
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
            self.iter += 1
        wait_for_rank0()  # nobody leaves before all is written
        return (
            f"{error}. So many iterations had to be skipped that the training stops; no weight has "
            f"changed in this one. Run it again with: python tools/replay_step.py {folder}"
        )

    def state_dict(self) -> dict[str, Any]:
        draws = self._first_draw + (self.iter + 1 - self.start_iter) * self._batch_size()
        run = {"seed": self._seed.seed, "draws": draws, "facts": self._facts().to_dict()}
        return {**super().state_dict(), "run": run}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        run = state_dict.get("run", {})  # a checkpoint of an older version has none
        self._first_draw = run.get("draws", (self.iter + 1) * self._batch_size())
        seed = run.get("seed", self._seed.seed)
        changes = differences(run.get("facts", {}), self._facts())
        if self.cfg.train.seed < 0:
            self._seed.seed = seed
        elif self._seed.seed != seed:
            changes.append(
                f"seed was {seed} and is {self._seed.seed}: order of the data, augmentation and "
                "dropout are others from here on"
            )
        if changes:
            logger.warning(
                "The training goes on, but not exactly as it would have:\n  %s",
                "\n  ".join(changes),
            )

    def _facts(self) -> RunFacts:
        step = self._trainer
        return RunFacts.now(
            world_size=comm.get_world_size(),
            batch_size=self._batch_size(),
            precision=step.precision,
            device=next(step.model.parameters()).device.type,
        )

    def _batch_size(self) -> int:
        """Samples of an iteration over all ranks; 0 for a loader that doesn't tell."""
        return (getattr(self.data_loader, "batch_size", 0) or 0) * comm.get_world_size()

    def before_train(self) -> None:
        super().before_train()
        self._trainer.start_loading()

    def _evaluate(self) -> dict[str, Any]:
        if self.iter < self.max_iter:
            self._saving.save_unless_saved(self.iter)  # evaluating takes a while
        with self._preemption.evaluation():
            self.results = self._evaluate_now()
        return self.results

    def _evaluate_now(self) -> dict[str, Any]:
        model = self.eval_model
        if comm.get_world_size() > 1:  # BatchNorm statistics are each rank's own
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)
        report = None
        if self.iter >= self.max_iter:  # the last evaluation, after the loop
            kind = "averaged weights" if self.ema else "weights"
            done = f"after iteration {self.max_iter} of training"
            report = replace(self.source, weights=f"{kind} {done}")
        return self.test(self.cfg, model, report=report)

    def _start_data(self) -> None:
        """Lets the training's loader begin with the first draw that no iteration has had, loading
        none before it. Samplers of ``fsdbev.data`` can: ``start`` is their first draw, counted
        over all ranks."""
        sampler = getattr(self.data_loader, "sampler", None)
        if not hasattr(sampler, "start"):
            logger.warning("The order of the data starts anew: the loader's sampler has no `start`")
            return
        sampler.start = self._first_draw
        self._seed_data()

    def _seed_data(self) -> None:
        """Where the run's seed was drawn, not configured, it is the data's too."""
        loader, seed = self.data_loader, self._seed.seed
        if self.cfg.train.seed < 0 and hasattr(getattr(loader, "dataset", None), "seed"):
            loader.sampler.seed = loader.dataset.seed = seed
            loader.generator.manual_seed(seed)

    @classmethod
    def test(
        cls, cfg: DictConfig, model: nn.Module, *, report: ReportSource | None = None
    ) -> dict[str, Any]:
        return evaluate(cfg, model, report=report, in_training=True)


def _build_ema(cfg: DictConfig, model: nn.Module) -> ModelEMA | None:
    options = {key: value for key, value in cfg.items() if key != "enabled"}
    return ModelEMA(model, **options) if cfg.enabled else None


def _distributed(model: nn.Module, device: torch.device, cfg: DictConfig) -> nn.Module:
    """The model in DistributedDataParallel where there are several processes."""
    device_ids = [torch.cuda.current_device()] if device.type == "cuda" else None
    return create_ddp_model(model, device_ids=device_ids, **cfg)


def replay(path: str, cfg: DictConfig) -> tuple[dict[str, Any], dict[str, float], list[str]]:
    """Runs the forward pass of an iteration again that ``Trainer`` saved on stopping.

    Returns:
        what was saved, the losses, and the modules whose output was not finite, first one first.
    """
    with torch.serialization.safe_globals([Instances, Boxes3D]):
        saved = read_checkpoint(path)
        model = build_model(cfg).train()
        load_weights(model, path, strict=True)
    names = {module: name for name, module in model.named_modules() if name}
    not_finite = []

    def check(module: nn.Module, inputs: Any, output: Any) -> None:
        if not all(t.isfinite().all() for t in tree_leaves(output) if isinstance(t, Tensor)):
            not_finite.append(names[module])

    for module in names:
        module.register_forward_hook(check)
    device, precision = next(model.parameters()).device, autocast_dtype(cfg.train.amp)
    seed_iteration(saved["seed"], saved["rank"], saved["iteration"])
    with torch.autocast(device.type, precision, enabled=precision is not None):
        losses = model(saved["batch"])
    return saved, {name: loss.item() for name, loss in losses.items()}, not_finite
