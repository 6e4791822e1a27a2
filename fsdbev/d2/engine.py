"""``detectron2.engine``, or its built-in replacement."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.engine import (
        AMPTrainer,
        DefaultTrainer,
        HookBase,
        SimpleTrainer,
        TrainerBase,
        create_ddp_model,
        default_argument_parser,
        default_setup,
        default_writers,
        hooks,
        launch,
    )
else:
    from ._builtin import hooks
    from ._builtin.defaults import (
        DefaultTrainer,
        create_ddp_model,
        default_argument_parser,
        default_setup,
        default_writers,
    )
    from ._builtin.launch import launch
    from ._builtin.train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase

__all__ = [
    "AMPTrainer",
    "DefaultTrainer",
    "HookBase",
    "SimpleTrainer",
    "TrainerBase",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
    "hooks",
    "launch",
]
