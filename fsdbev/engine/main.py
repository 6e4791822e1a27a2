"""The training command: what ``tools/train_net.py`` runs."""

from __future__ import annotations

import argparse
import copy
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fsdbev.checkpoint import TrainingCheckpointer, load_weights
from fsdbev.collect_env import as_table, environment
from fsdbev.d2.config import LazyConfig
from fsdbev.d2.engine import default_argument_parser, default_setup
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.logger import setup_logger

from .config import load_config
from .config_difference import difference_from_base
from .determinism import set_determinism
from .distributed import DistributedTimeouts
from .evaluation import evaluate
from .launch import launch
from .model import build_model
from .report import ReportSource
from .trainer import Trainer
from .wandb_writer import wants_wandb

logger = logging.getLogger(__name__)

_EXAMPLES = """
Examples:
  train:       train_net.py --config-file configs/fsdbev_tiny_synthetic.py
  go on:       train_net.py --config-file configs/fsdbev_tiny_synthetic.py --resume
  evaluate:    train_net.py --config-file configs/fsdbev_tiny_synthetic.py --eval-only \\
                   train.init_checkpoint=output/model_final.pth
  change:      train_net.py --config-file configs/fsdbev_tiny_synthetic.py train.max_iter=100
  look:        train_net.py --config-file configs/fsdbev_tiny_synthetic.py --diff-config
  two GPUs:    train_net.py --config-file configs/fsdbev_r50_cbgs.py --num-gpus 2
Without a GPU it runs on the CPU, --num-gpus N in N processes. torchrun works as well.
"""


def run(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, checks the config, and runs ``main`` in every process of the job."""
    parser = default_argument_parser(epilog=_EXAMPLES)
    parser.set_defaults(dist_url="auto")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--print-config", action="store_true", help="write the config as it would be used, and end"
    )
    shown.add_argument(
        "--diff-config",
        action="store_true",
        help="write what the file and the overrides change of what the file builds on, and end",
    )
    args = parser.parse_args(argv)
    if not args.config_file:
        parser.error("--config-file is needed")
    if args.num_machines > 1 and args.dist_url == "auto":
        parser.error("several machines need --dist-url tcp://<host of machine 0>:<free port>")
    try:
        cfg = load_config(args.config_file, args.opts)
        if args.print_config or args.diff_config:
            text = config_text(cfg) if args.print_config else difference_text(args.config_file, cfg)
            sys.stdout.write(text)
            return
        timeouts = DistributedTimeouts(**cfg.train.get("distributed", {}))
        if not args.eval_only:
            wants_wandb(cfg.train)
        set_determinism(cfg.train)  # before CUDA starts, for all processes of the job
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    launch(main, args, timeouts)


def config_text(cfg: DictConfig) -> str:
    """The config as YAML that ``--config-file`` takes: references resolved, what is called by its
    name. ValueError for a reference to what is not there, as in a part of a config."""
    resolved = copy.deepcopy(cfg)
    OmegaConf.resolve(resolved)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        LazyConfig.save(resolved, str(file))
        return file.read_text(encoding="utf-8")


def difference_text(path: str, cfg: DictConfig) -> str:
    """One line a key that differs from what the config file builds on."""
    changes = difference_from_base(path, cfg)
    return "".join(f"{change}\n" for change in changes) or "no difference\n"


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Trains or evaluates, as one process of a job. Returns the metrics on the first rank."""
    cfg = load_config(args.config_file, args.opts)
    default_setup(cfg, args)
    if not logging.getLogger("fsdbev").handlers:  # Detectron2 sets up its own loggers only
        setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="fsdbev")
    set_determinism(cfg.train)
    logger.info("Environment:\n%s", as_table(environment()))
    # now, not at the end of a training, when the file may have been edited
    source = ReportSource(args.config_file, difference_from_base(args.config_file, cfg))
    if args.eval_only:
        return evaluate_only(cfg, last=args.resume, source=source)
    trainer = Trainer(cfg, source)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def evaluate_only(
    cfg: DictConfig, *, last: bool, source: ReportSource | None = None
) -> dict[str, Any]:
    """Evaluates ``train.init_checkpoint``, or the output folder's last checkpoint with ``last``.

    Args:
        source: of the config, for the report.
    """
    model = build_model(cfg)
    path = cfg.train.init_checkpoint
    if last:
        path = TrainingCheckpointer(model, cfg.train.output_dir).newest_whole() or path
    if path:
        load_weights(model, path, strict=True)
    else:
        logger.warning("train.init_checkpoint is empty: an untrained model is evaluated")
    source = replace(source or ReportSource(), weights=path or "none: an untrained model")
    return evaluate(cfg, model, report=source)
