"""Built-in ``detectron2.engine.defaults``: command line, setup of a job, base of its trainer."""

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
    """Returns a parser of the arguments of a training script.

    The remaining arguments, overrides ``path.key=value`` of the config, are parsed into ``opts``.
    """
    parser = argparse.ArgumentParser(
        epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="config file; a .py config is executed: use only files from sources you trust",
    )
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint in the output folder"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate without training")
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="GPUs per machine; on the CPU, processes"
    )
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument("--machine-rank", type=int, default=0, help="index of this machine")
    parser.add_argument(
        "--dist-url", default="auto", help="address of rank 0: tcp://host:port, or auto"
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="overrides of the config, as path.key=value"
    )
    return parser


def default_setup(cfg: DictConfig, args: argparse.Namespace) -> None:
    """Creates the output folder, sets up logging and seeds the random generators.

    Logs the command line and writes the config to ``config.yaml`` in the output folder.

    Args:
        cfg: config, of which these keys are read if they exist: ``train.output_dir`` (or
            ``output_dir``; without both, there are no files), ``train.seed``,
            ``train.cudnn_benchmark`` and ``train.float32_precision``.
        args: arguments of ``default_argument_parser``.
    """
    output_dir = OmegaConf.select(cfg, "output_dir") or OmegaConf.select(cfg, "train.output_dir")
    rank = comm.get_rank()
    if comm.is_main_process() and output_dir:
        PathManager.mkdirs(output_dir)
    comm.synchronize()
    # fvcore's checkpointer logs under fvcore's name, not under this project's.
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    logger = setup_logger(output_dir, distributed_rank=rank, name="fsdbev")
    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Command line arguments: %s", args)
    if comm.is_main_process() and output_dir:
        path = os.path.join(output_dir, "config.yaml")
        LazyConfig.save(cfg, path)
        logger.info("Full config saved to %s", path)
    seed = OmegaConf.select(cfg, "train.seed", default=-1)
    seed_all_rng(None if seed < 0 else seed + rank)  # ranks must not augment alike
    # As in Detectron2: the trial runs of the benchmark cost more than they save in an evaluation.
    if not getattr(args, "eval_only", False):
        benchmark = OmegaConf.select(cfg, "train.cudnn_benchmark", default=False)
        torch.backends.cudnn.benchmark = benchmark
    precision = OmegaConf.select(cfg, "train.float32_precision", default="")
    # Two switches: the first one covers matrix products, but not cuDNN's convolutions.
    if precision and torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Returns the writers for the console, ``metrics.json`` and TensorBoard.

    Args:
        output_dir: folder of the files; created if it does not exist.
        max_iter: last iteration of the training, for the remaining time on the console.
    """
    PathManager.mkdirs(output_dir)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]


def create_ddp_model(
    model: torch.nn.Module, *, fp16_compression: bool = False, **kwargs: Any
) -> torch.nn.Module:
    """Wraps the model in ``DistributedDataParallel``; in a job of one process, returns it as is.

    Args:
        model: model on the device of this process.
        fp16_compression: whether gradients are sent as float16.
        kwargs: further arguments of ``DistributedDataParallel``.
    """
    if comm.get_world_size() == 1:
        return model
    kwargs.setdefault("device_ids", [comm.get_local_rank()])
    ddp = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

        ddp.register_comm_hook(state=None, hook=fp16_compress_hook)
    return ddp


def _attribute_of_trainer(name: str) -> property:
    """Returns a property that reads and sets an attribute of ``self._trainer``."""
    return property(
        lambda self: getattr(self._trainer, name),
        lambda self, value: setattr(self._trainer, name, value),
    )


class DefaultTrainer(TrainerBase):
    """Trainer that delegates its iterations to ``self._trainer``.

    Detectron2's class also builds model, loader and hooks from a yacs config. Here the subclass
    ``fsdbev.engine.Trainer`` builds them from a LazyConfig.
    """

    _trainer: SimpleTrainer

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    model = _attribute_of_trainer("model")
    data_loader = _attribute_of_trainer("data_loader")
    optimizer = _attribute_of_trainer("optimizer")

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])
