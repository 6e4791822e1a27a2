"""The training command: what ``tools/train_net.py`` runs."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from fsdbev.checkpoint import TrainingCheckpointer, load_weights
from fsdbev.collect_env import as_table, environment
from fsdbev.d2.engine import default_argument_parser, default_setup
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.logger import setup_logger

from .config import load_config
from .evaluation import evaluate
from .launch import launch
from .model import build_model
from .trainer import Trainer

logger = logging.getLogger(__name__)

_EXAMPLES = """
Examples:
  train:       train_net.py --config-file configs/fsdbev_tiny_synthetic.py
  go on:       train_net.py --config-file configs/fsdbev_tiny_synthetic.py --resume
  evaluate:    train_net.py --config-file configs/fsdbev_tiny_synthetic.py --eval-only \\
                   train.init_checkpoint=output/model_final.pth
  change:      train_net.py --config-file configs/fsdbev_tiny_synthetic.py train.max_iter=100
  two GPUs:    train_net.py --config-file configs/fsdbev_r50_cbgs.py --num-gpus 2
Without a GPU it runs on the CPU, --num-gpus N in N processes. torchrun works as well.
"""


def run(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, checks the config, and runs ``main`` in every process of the job."""
    parser = default_argument_parser(epilog=_EXAMPLES)
    parser.set_defaults(dist_url="auto")
    args = parser.parse_args(argv)
    if not args.config_file:
        parser.error("--config-file is needed")
    if args.num_machines > 1 and args.dist_url == "auto":
        parser.error("several machines need --dist-url tcp://<host of machine 0>:<free port>")
    try:
        load_config(args.config_file, args.opts)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    launch(main, args)


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Trains or evaluates, as one process of a job. Returns the metrics on the first rank."""
    cfg = load_config(args.config_file, args.opts)
    default_setup(cfg, args)
    if not logging.getLogger("fsdbev").handlers:  # Detectron2 sets up its own loggers only
        setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="fsdbev")
    logger.info("Environment:\n%s", as_table(environment()))
    if args.eval_only:
        return evaluate_only(cfg, last=args.resume)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def evaluate_only(cfg: DictConfig, *, last: bool) -> dict[str, Any]:
    """Evaluates ``train.init_checkpoint``, or the output folder's last checkpoint with ``last``."""
    model = build_model(cfg)
    path = cfg.train.init_checkpoint
    if last:
        path = TrainingCheckpointer(model, cfg.train.output_dir).get_checkpoint_file() or path
    if path:
        load_weights(model, path, strict=True)
    else:
        logger.warning("train.init_checkpoint is empty: an untrained model is evaluated")
    return evaluate(cfg, model)
