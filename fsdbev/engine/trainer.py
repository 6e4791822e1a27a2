"""Trainer for models described by a LazyConfig."""

from __future__ import annotations

import importlib.util
import logging
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._pytree import tree_leaves

from fsdbev.checkpoint import ModelSettings, TrainingCheckpointer, load_weights, read_checkpoint
from fsdbev.d2.engine import HookBase, TrainerBase, create_ddp_model, default_writers, hooks
from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.d2.structures import Instances
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.events import EventWriter, TensorboardXWriter
from fsdbev.inference.model_builder import build_model
from fsdbev.report import ReportSource
from fsdbev.structures import Boxes3D
from fsdbev.utils.atomic_write import atomic_write

from .distributed import ThreadDump, wait_for_rank0
from .ema import ModelEMA
from .evaluate_model import check_data_classes, evaluate
from .hooks.checkpointing import CheckpointSaver
from .hooks.curves import TrainingCurves
from .hooks.iteration import (
    AfterBackward,
    EMAUpdate,
    HistoryTrimmer,
    IterationSeed,
    seed_iteration,
)
from .hooks.preemption import Preemption
from .lazy_builders import LazyBuilders, instantiate_items
from .resume import RunConditions, describe_changes
from .train_step import BadNumbersError, TrainStep, autocast_dtype, named_losses
from .wandb_writer import WandbWriter, is_wandb_enabled

logger = logging.getLogger(__name__)


class Trainer(LazyBuilders):
    """Detectron2's ``DefaultTrainer`` built from a LazyConfig.

    ``train.hooks`` adds hooks to a training; see :meth:`build_hooks` for their place.
    ``train.trainer`` selects a subclass, which overrides what differs: ``build_hooks``,
    ``run_step`` or a class method such as ``build_model``.

    Args:
        cfg: has ``model``, ``optimizer``, ``lr_multiplier``, ``dataloader.{train, test,
            evaluator}`` and ``train``; ``configs/common/train.py`` documents the latter.
        source: source of the config, for the report at the end.

    Attributes:
        ema: average of the weights; None if ``train.ema`` is disabled.
        results: metrics of the last evaluation on rank 0.

    Raises:
        ValueError: a setting is out of range, a package that the config needs is missing, or the
            classes of the training data are not those of the model.
    """

    def __init__(self, cfg: DictConfig, source: ReportSource | None = None) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's own constructor takes a yacs config
        self.cfg = cfg
        self.source = source or ReportSource()
        train = cfg.train
        is_wandb_enabled(train)  # reports a missing package before anything is built
        self._seed = IterationSeed(train.seed if train.seed >= 0 else comm.shared_random_seed())
        model = self.build_model(cfg)
        device = next(model.parameters()).device
        # DDP broadcasts the weights of rank 0. The average is built afterwards, so that all ranks
        # start from the same weights.
        ddp_model = _wrap_in_ddp(model, device, train.ddp)
        self.ema = _build_ema(train.ema, model)
        self._trainer = TrainStep(
            ddp_model,
            self.build_train_loader(cfg),
            self.build_optimizer(cfg, model),
            device=device,
            precision=autocast_dtype(train.amp),
            max_grad_norm=train.clip_grad.max_norm if train.clip_grad.enabled else None,
            max_skipped_steps=train.max_skipped_steps,
        )
        check_data_classes(model, self.data_loader)
        self._trainer.register_hooks([AfterBackward(self)])
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer)
        # A proxy, as in Detectron2: checkpointer and trainer would otherwise refer to each other.
        checkpointables = {"trainer": weakref.proxy(self)} | ({"ema": self.ema} if self.ema else {})
        settings = ModelSettings.of(model, cfg, "train")
        self.checkpointer = TrainingCheckpointer(
            model, train.output_dir, settings=settings, **checkpointables
        )
        self._preemption = Preemption(self.checkpointer)
        self._saver = CheckpointSaver(
            self.checkpointer, **train.checkpointer, max_age_hours=train.checkpoint_max_age_hours
        )
        self._first_draw = 0
        self._seed_data()
        self.start_iter, self.max_iter = 0, train.max_iter
        self.results: dict[str, Any] = {}
        self.register_hooks(self.build_hooks())

    @property
    def eval_model(self) -> nn.Module:
        """The evaluated model: the one with averaged weights, or the trained one without EMA."""
        return self.ema.model if self.ema else self.checkpointer.model

    @property
    def skipped_step(self) -> bool:
        """Whether the last iteration was skipped because of a value that is not finite."""
        return self._trainer.skipped

    def build_hooks(self) -> list[HookBase | None]:
        """Returns the hooks in the order of their calls; None is left out.

        Those of ``train.hooks`` follow the evaluation, whose metrics they can read, and precede the
        writers. A checkpoint is saved before: it has the state of such a hook from before its
        ``after_step`` of that iteration.

        Raises:
            ValueError: ``train.hooks`` is not a list of hooks.
        """
        train = self.cfg.train
        is_main = comm.is_main_process()
        write = hooks.PeriodicWriter(self.build_writers(), train.log_period) if is_main else None
        # The average is updated before it is saved, and an iteration is saved before a signal or an
        # evaluation can end the process. Writers follow the hooks that store scalars;
        # TrainingCurves and HistoryTrimmer follow the writers.
        return [
            ThreadDump(train.output_dir),
            hooks.IterationTimer(),
            self._seed,
            hooks.LRScheduler(),
            EMAUpdate(self.ema) if self.ema else None,
            self._saver,
            self._preemption,
            hooks.EvalHook(train.eval_period, self._evaluate),
            *_configured_hooks(train),
            write,
            TrainingCurves(train.output_dir, train.eval_period) if is_main else None,
            HistoryTrimmer(),
        ]

    def build_writers(self) -> list[EventWriter]:
        """Returns writers to the console and ``metrics.json``, to TensorBoard if it is installed,
        and to Weights & Biases if ``train.wandb`` is enabled."""
        train = self.cfg.train
        writers = default_writers(train.output_dir, self.max_iter)
        if importlib.util.find_spec("tensorboard") is None:
            writers = [w for w in writers if not isinstance(w, TensorboardXWriter)]
        if is_wandb_enabled(train):
            options = {key: train.wandb[key] for key in ("project", "name", "mode")}
            writers.append(WandbWriter(train.output_dir, **options))
        return writers

    def resume_or_load(self, resume: bool = True) -> None:
        """Resumes from the last checkpoint, or loads initial weights.

        Args:
            resume: continue from the last checkpoint of the output folder if there is one.
                Otherwise the training starts from ``train.init_checkpoint``; "": from scratch.
                ``train.start_iter`` is its first iteration then: learning rate and data are those
                of that iteration, the optimizer has no state.

        Raises:
            ValueError: no checkpoint is complete, or it belongs to another model.
        """
        path = self.cfg.train.init_checkpoint
        has_checkpoint = self.checkpointer.has_checkpoint()
        if resume and has_checkpoint:
            self.checkpointer.resume_or_load("", resume=True)
            self.start_iter = self.iter + 1  # the checkpoint has the number of a finished iteration
            self._resume_data_order()
            return
        if has_checkpoint:
            logger.warning(
                "%s has checkpoints of another training, and this one does not continue it: a "
                "later --resume may load the old ones. Use a separate train.output_dir for each "
                "training",
                self.cfg.train.output_dir,
            )
        if path:
            checkpointer = self.checkpointer
            load_weights(checkpointer.model, path, strict=False, settings=checkpointer.settings)
            if self.ema:
                self.ema.reset()
        if start_iter := self.cfg.train.get("start_iter", 0):
            self._start_later(start_iter)

    def _start_later(self, iteration: int) -> None:
        """Starts at an iteration of the schedule, with the state of the optimizer as it is."""
        if not 0 < iteration < self.max_iter:
            raise ValueError(
                f"train.start_iter is {iteration}: it must be at least 0 and less than "
                f"train.max_iter, {self.max_iter}"
            )
        self.start_iter = iteration
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])  # as in the state of a used optimizer
        self._first_draw = iteration * self._batch_size()
        self._resume_data_order()

    def train(self) -> dict[str, Any]:
        """Trains and evaluates; returns the metrics of the last evaluation on rank 0, else {}."""
        with self._preemption.listening():
            try:
                TrainerBase.train(self, self.start_iter, self.max_iter)
            finally:
                self._trainer.stop_loading()
        return self.results

    def run_step(self) -> None:
        """Runs one iteration.

        Raises:
            FloatingPointError: too many iterations had to be skipped; this one was saved for
                ``tools/replay_step.py``.
        """
        try:
            super().run_step()
        except BadNumbersError as error:
            raise FloatingPointError(self._save_failed_iteration(error)) from error

    def _save_failed_iteration(self, error: BadNumbersError) -> str:
        """Saves this iteration for ``replay``, and a checkpoint from before it.

        Returns:
            the message of the error that ends the training.
        """
        folder = Path(self.cfg.train.output_dir) / f"stopped_at_{self.iter:07d}"
        model, rank = self.checkpointer.model.state_dict(), comm.get_rank()
        saved = {"seed": self._seed.seed, "rank": rank, "iteration": self.iter}
        saved |= {"model": model, "batch": error.batch, "losses": error.losses}
        saved["model_settings"] = self.checkpointer.settings.to_dict()
        with atomic_write(folder / f"rank{rank}.pth") as file:
            torch.save(saved, file)
        if self.iter > self.start_iter:
            # state_dict derives the number of draws from self.iter, which must be the number of the
            # last finished iteration.
            self.iter -= 1
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
            self.iter += 1
        wait_for_rank0()  # the first exit makes the launcher kill ranks that are still writing
        return (
            f"{error}. The training stops because train.max_skipped_steps is exceeded; this "
            "iteration did not change the weights. Replay it with: python tools/replay_step.py "
            f"{folder}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the trainer's state, with the facts that an exact resumption depends on."""
        draws = self._first_draw + (self.iter + 1 - self.start_iter) * self._batch_size()
        run = {"seed": self._seed.seed, "draws": draws, "facts": self._run_facts().to_dict()}
        return {**super().state_dict(), "run": run}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state and logs what prevents an exact resumption."""
        super().load_state_dict(state_dict)
        run = state_dict.get("run", {})  # checkpoints of older versions have no such entry
        self._first_draw = run.get("draws", (self.iter + 1) * self._batch_size())
        seed = run.get("seed", self._seed.seed)
        changes = describe_changes(run.get("facts", {}), self._run_facts())
        if self.cfg.train.seed < 0:  # drawn, not configured: the resumed run keeps the first draw
            self._seed.seed = seed
        elif self._seed.seed != seed:
            changes.append(
                f"seed was {seed} and is {self._seed.seed}: the order of the data, augmentation "
                "and dropout differ from here on"
            )
        if changes:
            logger.warning(
                "The training continues, but not exactly as it would have:\n  %s",
                "\n  ".join(changes),
            )

    def _run_facts(self) -> RunConditions:
        step = self._trainer
        return RunConditions.now(
            world_size=comm.get_world_size(),
            batch_size=self._batch_size(),
            precision=step.precision,
            device=next(step.model.parameters()).device.type,
        )

    def _batch_size(self) -> int:
        """Returns the samples per iteration over all ranks; 0 for a loader without batch size."""
        return (getattr(self.data_loader, "batch_size", 0) or 0) * comm.get_world_size()

    def before_train(self) -> None:
        super().before_train()
        self._trainer.start_loading()

    def _evaluate(self) -> dict[str, Any]:
        # A signal ends an evaluation at once, which must not lose iterations.
        if self.iter < self.max_iter:
            self._saver.save_unless_saved(self.iter)
        with self._preemption.evaluation():
            self.results = self._evaluate_now()
        return self.results

    def _evaluate_now(self) -> dict[str, Any]:
        model = self.eval_model
        if comm.get_world_size() > 1:
            # Ranks compute BatchNorm statistics of their own samples (ddp.broadcast_buffers=False),
            # but must evaluate the same model.
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)
        report = None
        if self.iter >= self.max_iter:  # only the evaluation after the loop writes a report
            kind = "averaged weights" if self.ema else "weights"
            done = f"after iteration {self.max_iter} of training"
            report = replace(self.source, weights=f"{kind} {done}")
        return self.test(self.cfg, model, report=report, in_training=True)

    def _resume_data_order(self) -> None:
        """Starts the training loader at the first draw that no finished iteration has used.

        Samplers of ``fsdbev.data`` support this without loading the earlier draws: ``start`` is the
        number of their first draw over all ranks.
        """
        sampler = getattr(self.data_loader, "sampler", None)
        if not hasattr(sampler, "start"):
            logger.warning("The data order starts from the beginning: the sampler has no `start`")
            return
        sampler.start = self._first_draw
        self._seed_data()

    def _seed_data(self) -> None:
        """Seeds the training loader with the run's seed if that was drawn (``train.seed < 0``)."""
        # The loader was built with a seed that it drew itself, which no checkpoint has.
        loader, seed = self.data_loader, self._seed.seed
        if self.cfg.train.seed < 0 and hasattr(getattr(loader, "dataset", None), "seed"):
            loader.sampler.seed = loader.dataset.seed = seed
            loader.generator.manual_seed(seed)

    @classmethod
    def test(
        cls,
        cfg: DictConfig,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
        *,
        report: ReportSource | None = None,
        in_training: bool = True,
    ) -> dict[str, Any]:
        """Evaluates ``model`` during a training or with ``--eval-only``; see ``evaluate``.

        Args:
            evaluators: used instead of those of :meth:`build_evaluator`.
        """
        return evaluate(
            cfg,
            model,
            evaluators=evaluators,
            report=report,
            in_training=in_training,
            builders=cls,
        )


def _configured_hooks(train: DictConfig) -> list[HookBase]:
    """Returns the hooks of ``train.hooks``; ValueError if it is not a list of hooks."""
    found = instantiate_items(train.get("hooks") or [])
    if not isinstance(found, list) or not all(isinstance(hook, HookBase) for hook in found):
        raise ValueError(
            f"train.hooks is {found!r}: it must be a list of hooks, subclasses of HookBase, such "
            "as [L(MyHook)()]"
        )
    return found


def _build_ema(cfg: DictConfig, model: nn.Module) -> ModelEMA | None:
    options = {key: value for key, value in cfg.items() if key != "enabled"}
    return ModelEMA(model, **options) if cfg.enabled else None


def _wrap_in_ddp(model: nn.Module, device: torch.device, cfg: DictConfig) -> nn.Module:
    """Returns the model in DistributedDataParallel, or itself in a job with one process."""
    device_ids = [torch.cuda.current_device()] if device.type == "cuda" else None
    return create_ddp_model(model, device_ids=device_ids, **cfg)


def replay(path: str, cfg: DictConfig) -> tuple[dict[str, Any], dict[str, float], list[str]]:
    """Repeats the forward pass of an iteration that ``Trainer`` saved when it stopped.

    Args:
        path: file of one rank, ``<output_dir>/stopped_at_<iteration>/rank<rank>.pth``.
        cfg: config of the training.

    Returns:
        the saved content, name -> loss, and the names of the modules whose output is not finite, in
        the order of their computation.

    Raises:
        FileNotFoundError, ValueError: the file is missing, damaged or belongs to another model.
    """
    # The saved batch contains these two classes, which torch.load(weights_only=True) must accept.
    with torch.serialization.safe_globals([Instances, Boxes3D]):
        saved = read_checkpoint(path)
        model = build_model(cfg).train()
        load_weights(model, path, strict=True, settings=ModelSettings.of(model, cfg, "train"))
    names = {module: name for name, module in model.named_modules() if name}
    not_finite = []

    def check(module: nn.Module, inputs: Any, output: Any) -> None:
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if module in names and not all(tensor.isfinite().all() for tensor in tensors):
            not_finite.append(names[module])

    device, precision = next(model.parameters()).device, autocast_dtype(cfg.train.amp)
    # Random draws, such as dropout and BEV-paste, are those of the saved iteration.
    seed_iteration(saved["seed"], saved["rank"], saved["iteration"])
    # One hook for all modules: hooks of their own would change how the center head computes.
    with (
        register_module_forward_hook(check),
        torch.autocast(device.type, precision, enabled=precision is not None),
    ):
        losses = named_losses(model(saved["batch"]))
    return saved, {name: loss.item() for name, loss in losses.items()}, not_finite
