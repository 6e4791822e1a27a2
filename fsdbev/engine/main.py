"""The training command behind ``tools/train_net.py``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fsdbev.checkpoint import ModelSettings, TrainingCheckpointer, load_weights
from fsdbev.config.difference import Change, difference
from fsdbev.config.loading import config_text, load_config, read_config, resolved
from fsdbev.d2.config import instantiate
from fsdbev.d2.engine import default_argument_parser, default_setup
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.logger import setup_logger
from fsdbev.report import ReportSource
from fsdbev.utils.collect_env import as_table, environment
from fsdbev.utils.folder_lock import locked_folder
from fsdbev.utils.plain_file import check_file_names

from .determinism import set_determinism
from .distributed import DistributedTimeouts
from .launch import launch
from .trainer import Trainer
from .wandb_writer import is_wandb_enabled

logger = logging.getLogger(__name__)

_EXAMPLES = """
Examples:
  train:       train_net.py --config-file configs/fsdbev_tiny_synthetic.py
  resume:      train_net.py --config-file configs/fsdbev_tiny_synthetic.py --resume
  evaluate:    train_net.py --config-file configs/fsdbev_tiny_synthetic.py --eval-only \\
                   train.init_checkpoint=output/model_final.pth
  change:      train_net.py --config-file configs/fsdbev_tiny_synthetic.py train.max_iter=100
  compare:     train_net.py --config-file configs/fsdbev_r50_cbgs_bev256.py \\
                   --diff-config configs/fsdbev_r50_cbgs.py
  two GPUs:    train_net.py --config-file configs/fsdbev_r50_cbgs.py --num-gpus 2
Without a GPU it runs on the CPU; --num-gpus N then starts N processes. torchrun works as well.
"""


def run(argv: Sequence[str] | None = None) -> None:
    """Parses the command line, checks the config and runs ``main`` in every process of the job.

    Args:
        argv: arguments without the program's name; None: those of the process.

    Raises:
        SystemExit: status 2 for a wrong command line or config, or if another process is writing to
            the output folder; otherwise see ``launch``.
    """
    parser = default_argument_parser(epilog=_EXAMPLES)
    parser.set_defaults(dist_url="auto")
    print_options = parser.add_mutually_exclusive_group()
    print_options.add_argument(
        "--print-config", action="store_true", help="print the config as YAML and exit"
    )
    print_options.add_argument(
        "--diff-config",
        metavar="BASE",
        help="print the differences from the config file BASE and exit; with --eval-only, evaluate "
        "and add them to the report",
    )
    args = _parse(parser, sys.argv[1:] if argv is None else argv)
    if not args.config_file:
        parser.error("--config-file is needed")
    if args.num_machines > 1 and args.dist_url == "auto":
        parser.error("several machines need --dist-url tcp://<host of machine 0>:<free port>")
    try:
        check_file_names()
        cfg = load_config(args.config_file, args.opts)
        resolved(cfg)  # fails here, before any process starts, for a reference to a missing key
        changes = _changes(args, cfg)
        if args.print_config:
            sys.stdout.write(config_text(cfg))
            return
        if changes is not None and not args.eval_only:
            lines = [f"{change}\n" for change in changes]
            sys.stdout.write("".join(lines) or "no difference\n")
            return
        timeouts = DistributedTimeouts(**cfg.train.get("distributed", {}))
        if not args.eval_only:
            is_wandb_enabled(cfg.train)  # reports a missing package before any process starts
        find_trainer(cfg)
        instantiate(OmegaConf.select(cfg, "model.classes"))  # reports contradictory values
        set_determinism(cfg.train)  # before CUDA starts, for all processes of the job
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    with ExitStack() as stack:
        # One lock for all processes of the job: taken before they start, under torchrun by rank 0.
        if args.machine_rank == 0 and os.environ.get("RANK", "0") == "0":
            lock = locked_folder(cfg.train.output_dir, "choose another train.output_dir")
            try:
                stack.enter_context(lock)
            except OSError as error:
                parser.error(str(error))
        launch(main, args, timeouts)


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parses a command line with options before, between or after the overrides.

    Detectron2's parser takes all arguments from the first override on as overrides.
    """
    options: list[str] = []
    overrides: list[str] = []
    rest = list(argv)
    while rest:
        tail = parser.parse_args(rest).opts
        options += rest[: len(rest) - len(tail)]
        count = next((i for i, text in enumerate(tail) if text.startswith("-")), len(tail))
        if count == 0 and tail == rest:
            parser.error(f"{rest[0]!r} is neither an option nor an override key=value")
        overrides += tail[:count]
        rest = tail[count:]
    return parser.parse_args([*options, *overrides])


def _changes(args: argparse.Namespace, cfg: DictConfig) -> list[Change] | None:
    """Returns the differences from the config of ``--diff-config``; None without that option."""
    return difference(read_config(args.diff_config), cfg) if args.diff_config else None


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Trains or evaluates, as one process of a job.

    Args:
        args: parsed command line, see ``run``.

    Returns:
        metrics by task on rank 0, {} on the other ranks.
    """
    cfg = load_config(args.config_file, args.opts)
    trainer_class = find_trainer(cfg)
    if cfg.train.get("trainer"):
        # By its name, because Detectron2 saves a class as a tag that YAML configs may not have.
        cfg.train.trainer = f"{trainer_class.__module__}.{trainer_class.__qualname__}"
    default_setup(cfg, args)  # writes config.yaml, with the references that the config has
    if not logging.getLogger("fsdbev").handlers:  # Detectron2 configures only its own loggers
        setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="fsdbev")
    set_determinism(cfg.train)
    logger.info("Environment:\n%s", as_table(environment()))
    # Computed now: the base's file may be edited before the training ends.
    source = ReportSource(args.config_file, tuple(args.opts), _changes(args, cfg), args.diff_config)
    if args.eval_only:
        return evaluate_only(cfg, last=args.resume, source=source)
    trainer = trainer_class(cfg, source)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def find_trainer(cfg: DictConfig) -> type[Trainer]:
    """Returns the class ``train.trainer``, or :class:`Trainer` if the config has none.

    Raises:
        ValueError: ``train.trainer`` is not a subclass of ``Trainer``, or the name of one in a
            module that is not imported.
    """
    found = given = instantiate(cfg.train.get("trainer")) or Trainer
    if isinstance(given, str):
        # Looked up, not imported: a YAML config may come from a stranger, and its plugins were
        # checked.
        module, _, name = given.rpartition(".")
        found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if isinstance(found, type) and issubclass(found, Trainer):
        return found
    raise ValueError(
        f"train.trainer is {given!r}: it must be a subclass of fsdbev.engine.Trainer, as a class "
        "or as MODULE.NAME with MODULE in train.plugins"
    )


def evaluate_only(
    cfg: DictConfig, *, last: bool, source: ReportSource | None = None
) -> dict[str, Any]:
    """Evaluates weights from a file, with the methods of ``train.trainer``.

    Args:
        cfg: the config; ``train.init_checkpoint`` names the file.
        last: evaluate the last complete checkpoint of the output folder instead, if there is one.
        source: source of the config, for the report.

    Returns:
        metrics by task on rank 0, {} on the other ranks.

    Raises:
        ValueError: weights or settings of the file do not match the config, or it is damaged; the
            classes of the data are others; or see :func:`find_trainer`.
    """
    trainer = find_trainer(cfg)
    model = trainer.build_model(cfg)
    path = cfg.train.init_checkpoint
    if last:
        path = TrainingCheckpointer(model, cfg.train.output_dir).newest_complete() or path
    if path:
        load_weights(model, path, strict=True, settings=ModelSettings.of(model, cfg))
    else:
        logger.warning("train.init_checkpoint is empty: evaluating an untrained model")
    source = replace(source or ReportSource(), weights=path or "none: an untrained model")
    return trainer.test(cfg, model, report=source, in_training=False)
