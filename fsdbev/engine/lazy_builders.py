"""Class methods of Detectron2's ``DefaultTrainer`` that build a training, for a LazyConfig."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig, ListConfig
from torch import nn

from fsdbev.d2.config import instantiate
from fsdbev.d2.engine import DefaultTrainer
from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.inference.model_builder import build_model


class LazyBuilders(DefaultTrainer):
    """Builds the parts of a training and of an evaluation from a LazyConfig.

    The methods have the names of Detectron2's, and a trainer of one's own overrides those that
    differ.

    Raises:
        ValueError: by all methods, if the config is not a LazyConfig.
    """

    @classmethod
    def build_model(cls, cfg: DictConfig) -> nn.Module:
        """Builds ``cfg.model`` on ``cfg.train.device``."""
        return build_model(_lazy(cfg))

    @classmethod
    def build_optimizer(cls, cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
        """Builds ``cfg.optimizer`` for the parameters of ``model``."""
        return build_optimizer(_lazy(cfg).optimizer, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: DictConfig, optimizer: torch.optim.Optimizer
    ) -> ParamScheduler | torch.optim.lr_scheduler.LRScheduler:
        """Builds ``cfg.lr_multiplier``, a schedule of multiples of the learning rate."""
        return instantiate(_lazy(cfg).lr_multiplier)

    @classmethod
    def build_train_loader(cls, cfg: DictConfig) -> Iterable[list[dict[str, Any]]]:
        """Builds ``cfg.dataloader.train``."""
        return instantiate(_lazy(cfg).dataloader.train)

    @classmethod
    def build_test_loader(
        cls, cfg: DictConfig, dataset_name: str | None = None
    ) -> Iterable[list[dict[str, Any]]]:
        """Builds ``cfg.dataloader.test``; a LazyConfig has one test set, which takes no name."""
        _check_unnamed(dataset_name)
        return instantiate(_lazy(cfg).dataloader.test)

    @classmethod
    def build_evaluator(
        cls, cfg: DictConfig, dataset_name: str | None = None
    ) -> DatasetEvaluator | list[DatasetEvaluator]:
        """Builds ``cfg.dataloader.evaluator``, one evaluator or a list of them."""
        _check_unnamed(dataset_name)
        return instantiate_items(_lazy(cfg).dataloader.evaluator)

    @staticmethod
    def auto_scale_workers(cfg: Any, num_workers: int) -> NoReturn:
        """Raises ValueError: a LazyConfig has no number of workers that it was written for."""
        raise ValueError(
            f"a LazyConfig is not scaled to {num_workers} workers: set "
            "dataloader.train.total_batch_size, optimizer.lr and train.max_iter instead"
        )


def build_optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Builds the optimizer that ``cfg`` describes for the parameters of ``model``.

    Args:
        cfg: a lazy call; ``model`` becomes its ``params.model``.
        model: the model, on its final device.
    """
    # A copy, so that the caller's config does not get the model as a value.
    cfg = copy.deepcopy(cfg)
    cfg.params.model = model
    return instantiate(cfg)


def instantiate_items(cfg: Any) -> Any:
    """Returns ``instantiate(cfg)``; for a list of a config, a Python list of its results.

    ``instantiate`` returns omegaconf's list, which turns dataclass instances into mappings.
    """
    return [instantiate(item) for item in cfg] if isinstance(cfg, ListConfig) else instantiate(cfg)


def _lazy(cfg: Any) -> DictConfig:
    if isinstance(cfg, DictConfig):
        return cfg
    raise ValueError(
        f"a config is a LazyConfig, as fsdbev.config.load_config(path) returns it, got a "
        f"{type(cfg).__name__}; Detectron2's yacs configs have other keys"
    )


def _check_unnamed(dataset_name: str | None) -> None:
    if dataset_name is not None:
        raise ValueError(
            f"a LazyConfig has one test set, dataloader.test, got the name {dataset_name!r}: call "
            "the method without a name, or change dataloader.test of the config"
        )
