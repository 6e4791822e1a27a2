"""Built-in side of ``detectron2.engine.defaults``: command line, set-up of a job, its trainer."""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn.parallel import DistributedDataParallel

from . import comm
from .config import LazyConfig
from .env import seed_all_rng
from .events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from .file_io import PathManager
from .logger import setup_logger
from .train_loop import SimpleTrainer, TrainerBase


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The arguments of a training command; what follows them is in ``opts``."""
    parser = argparse.ArgumentParser(
        epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="config; a .py one is a program that is run: take it from people you trust",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint of the output folder"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="GPUs per machine; without GPUs, processes"
    )
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="index of this machine")
    parser.add_argument(
        "--dist-url", default="auto", help="where rank 0 listens: tcp://host:port, or auto"
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="changes to the config, as path.key=value"
    )
    return parser


def default_setup(cfg: DictConfig, args: argparse.Namespace) -> None:
    """Output folder, log files, a record of command line and config, random seed.

    Writes ``config.yaml``, the config as it is used, to ``cfg.train.output_dir``.
    """
    train = cfg.train
    rank = comm.get_rank()
    if comm.is_main_process():
        PathManager.mkdirs(train.output_dir)
    comm.synchronize()
    setup_logger(train.output_dir, distributed_rank=rank, name="fvcore")
    logger = setup_logger(train.output_dir, distributed_rank=rank, name="fsdbev")
    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Command line arguments: %s", args)
    if comm.is_main_process():
        path = os.path.join(train.output_dir, "config.yaml")
        LazyConfig.save(cfg, path)
        logger.info("Full config saved to %s", path)
    seed = OmegaConf.select(train, "seed", default=-1)
    seed_all_rng(None if seed < 0 else seed + rank)
    if not args.eval_only:
        torch.backends.cudnn.benchmark = OmegaConf.select(train, "cudnn_benchmark", default=False)
    precision = OmegaConf.select(train, "float32_precision", default="")
    if precision and torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Console, ``metrics.json`` and TensorBoard."""
    PathManager.mkdirs(output_dir)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]


def create_ddp_model(
    model: torch.nn.Module, *, fp16_compression: bool = False, **kwargs: Any
) -> torch.nn.Module:
    """The model in ``DistributedDataParallel``; as it is in a job of one process."""
    if comm.get_world_size() == 1:
        return model
    kwargs.setdefault("device_ids", [comm.get_local_rank()])
    ddp = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

        ddp.register_comm_hook(state=None, hook=fp16_compress_hook)
    return ddp


class DefaultTrainer(TrainerBase):
    """A trainer whose iteration is that of another one, ``self._trainer``.

    Detectron2's also builds everything from a yacs config; a subclass does that here, from a
    LazyConfig (``fsdbev.engine.Trainer``).
    """

    _trainer: SimpleTrainer

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    @property
    def model(self) -> torch.nn.Module:
        return self._trainer.model

    @property
    def data_loader(self) -> Any:
        return self._trainer.data_loader

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._trainer.optimizer

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])
