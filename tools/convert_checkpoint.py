#!/usr/bin/env python
"""Converts weights between the names of this project and those of the FSD-BEV release.

IN is a checkpoint of the FSD-BEV release (with or without EMA), ResNet weights of torchvision, or a
checkpoint of this project, from which the EMA weights are taken. It is a .pth or .safetensors file;
code in the file is never executed. OUT gets the format of its extension, .pth or .safetensors, and
contains only weights and, if IN says them, the settings of the model and the iteration.
--half stores the weights of convolutions and linear layers as float16, which halves the file; a
model casts them to its own type when it loads them. --parts keeps only some parts of the model, and
of the settings those of the images and of these parts, so that models of another grid or other
classes can start from the file.

The weights that OUT gets must fit a model exactly: no name may be missing, unknown or of another
shape, and classes, grid, depth bins and normalisation, if IN says them, must be the model's.
Without --config-file they are checked against the models of configs/*.py; if none fits, the error
lists the differences to the closest model.

With --foreign-objects the file may contain objects other than tensors and numbers. The named
tensors are extracted in a separate process, which does not import the classes and functions that
the file refers to.

  release to this project:   convert_checkpoint.py epoch_24_ema.pth fsdbev_r50.safetensors
  this project to release:   convert_checkpoint.py output/model_final.pth release.pth --reverse
  ImageNet backbone:         convert_checkpoint.py resnet50-0676ba61.pth backbone_r50.pth
  file with other objects:   convert_checkpoint.py theirs.pth out.pth --foreign-objects
  pre-trained parts:         convert_checkpoint.py output/model_final.pth out.safetensors \\
                                 --half --parts backbone neck
  another model:             convert_checkpoint.py in.pth out.pth \\
                                 --config-file configs/fsdbev_r50_cbgs.py model.depth_bins.step=0.25

To train or evaluate from OUT, run train_net.py with train.init_checkpoint=OUT, which also accepts
every form of IN.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from command_line import ROOT, exit_status, tool_parser
from torch import Tensor

from fsdbev.checkpoint import (
    Form,
    ModelSettings,
    SavedWeights,
    check_ending,
    compare,
    extract_weights,
    form_of,
    read_weights,
    to_half,
    to_our_names,
    to_release_names,
    write_weights,
)
from fsdbev.checkpoint.settings import describe
from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.modeling.backbone.resnet import ARCHITECTURES, ResNet

StateDict = dict[str, Tensor]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("input", metavar="IN", help="checkpoint to convert")
    add("output", metavar="OUT", help=".pth or .safetensors file to write")
    add("overrides", nargs="*", metavar="key=value", help="changes to --config-file")
    add("--reverse", action="store_true", help="write the names of the release")
    add("--half", action="store_true", help="store matrices as float16")
    parts = "keep only these parts of the model, such as backbone neck"
    add("--parts", nargs="+", metavar="PART", help=parts)
    add("--config-file", help="config of the model that the weights are for")
    add("--foreign-objects", action="store_true", help="skip objects other than tensors in IN")
    add("--force", action="store_true", help="replace OUT if it exists")
    args = parser.parse_intermixed_args(arguments)
    if args.overrides and not args.config_file:
        parser.error(f"{args.overrides[0]!r}: overrides are for --config-file, which is not given")
    return args


def check_output(path: str, source: str, force: bool) -> None:
    """Checks that OUT may be written.

    Raises:
        ValueError: OUT has an unknown extension, is the same file as IN, exists without --force, is
            a folder, or is in a folder that does not exist.
    """
    check_ending(path)
    if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
        raise ValueError(f"IN and OUT are the same file, {path!r}: give OUT another name")
    if os.path.exists(path) and not force:
        raise ValueError(f"{path!r} already exists; --force replaces it")
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError(
            f"{path!r} cannot be written: it is a folder, or its folder does not exist"
        )


def config_model(path: str, overrides: Sequence[str] = ()) -> tuple[StateDict, ModelSettings]:
    """Returns names and shapes of a config's model, as tensors without memory, and its settings."""
    config = load_config(path, overrides)
    if "model" not in config:
        raise ValueError(f"{path!r} is not a config of a model: it has no 'model'")
    with torch.device("meta"):
        model = instantiate(config.model)
    return model.state_dict(), ModelSettings.of(model)


def candidates(
    args: argparse.Namespace, form: Form
) -> Iterator[tuple[str, StateDict, ModelSettings]]:
    """Yields the models that the weights may be for: a title, names and shapes of weights, and the
    settings."""
    if args.config_file:
        own, settings = config_model(args.config_file, args.overrides)
        if form is Form.TORCHVISION:
            own = {name: value for name, value in own.items() if name.startswith("backbone.")}
        yield " ".join([args.config_file, *args.overrides]), own, settings
    elif form is Form.TORCHVISION:
        for depth in ARCHITECTURES:
            with torch.device("meta"):
                own = to_our_names(ResNet(depth=depth).state_dict())
            yield f"ResNet-{depth}", own, ModelSettings({})
    else:
        for path in sorted((ROOT / "configs").glob("*.py")):
            yield f"configs/{path.name}", *config_model(str(path))


def of_parts(weights: StateDict, parts: Sequence[str] | None) -> StateDict:
    """Returns the weights of the parts; None keeps all."""
    if parts is None:
        return weights
    return {name: value for name, value in weights.items() if name.split(".")[0] in parts}


def choose_parts(
    weights: StateDict, settings: ModelSettings | None, args: argparse.Namespace
) -> tuple[StateDict, ModelSettings | None]:
    """Returns the weights and settings of --parts, or all without it.

    Raises:
        ValueError: IN has no weights of a part.
    """
    if args.parts is None:
        return weights, settings
    known = list(dict.fromkeys(name.split(".")[0] for name in weights))
    if unknown := [part for part in args.parts if part not in known]:
        raise ValueError(
            f"--parts: {args.input!r} has no {', '.join(unknown)}; it has {', '.join(known)}"
        )
    return of_parts(weights, args.parts), settings and settings.of_parts(args.parts)


def check(
    weights: StateDict, args: argparse.Namespace, form: Form, saved: ModelSettings | None = None
) -> list[str]:
    """Returns the titles of the models that the weights fit exactly.

    Args:
        weights: weights by names of this project.
        args: arguments of the command line.
        form: names in the file.
        saved: settings in the file; None: it does not say them.

    Raises:
        ValueError: no model fits. The message lists the differences to the closest model, in the
            names of the file, or the settings if no model has those of the file.
    """
    reports, others = {}, {}
    for name, own, settings in candidates(args, form):
        own = of_parts(own, args.parts)
        if differences := settings.differences(saved):
            others[name] = differences
        else:
            reports[name] = compare(weights, own)
    if not reports:
        counts = {name: len(differences) for name, differences in others.items()}
        closest = min(counts, key=counts.get)
        raise ValueError(
            f"{describe(others[closest], args.input)}\nThe config is {closest}; give that of the "
            "training as --config-file, such as the config.yaml of its folder"
        )
    problems = {name: report.num_problems() for name, report in reports.items()}
    closest = min(problems, key=problems.get)
    report = reports[closest]
    if not report.loaded:
        raise ValueError(
            f"{args.input!r} has no weights of FSD-BEV or of a ResNet by torchvision's names, "
            f"but {len(weights)} others: {', '.join(list(weights)[:5])}, ..."
        )
    if problems[closest]:
        hint = "" if args.config_file else "; if it is for another model, give --config-file"
        raise ValueError(
            f"{args.input!r}, with names of {form.value}, does not fit {closest}{hint}\n"
            f"{report.listing(form.name_of)}"
        )
    return [name for name, count in problems.items() if count == 0]


def convert(args: argparse.Namespace) -> None:
    """Reads, checks and writes the weights, and prints a summary."""
    check_output(args.output, args.input, args.force)
    if args.foreign_objects:
        saved = SavedWeights(extract_weights(args.input), f"{args.input} (only its tensors)")
    else:
        saved = read_weights(args.input)
    weights, settings = saved.tensors, saved.settings
    form = form_of(weights)
    if args.reverse and form is Form.TORCHVISION:
        raise ValueError(f"{args.input!r} is {form.value}; --reverse is for whole models")
    weights, settings = choose_parts(to_our_names(weights), settings, args)
    models = check(weights, args, form, settings)
    parts = Counter(name.split(".")[0] for name in weights)
    target = Form.RELEASE if args.reverse else Form.OURS
    if args.reverse:
        weights = to_release_names(weights)
    entry = "state_dict" if args.reverse else "model"
    content = settings and settings.to_dict()
    if args.half:
        weights = to_half(weights)
    write_weights(weights, args.output, entry=entry, settings=content, iteration=saved.iteration)
    print(f"read {saved.source}: names of {form.value}")
    print("all names and shapes fit", " and ".join(models))
    print(f"{len(weights)} tensors:", ", ".join(f"{part} {n}" for part, n in sorted(parts.items())))
    print("settings:", ", ".join(sorted(content)) if content else "not in the file")
    if saved.iteration is not None:
        print("iteration:", saved.iteration)
    print(f"wrote {args.output}: names of {target.value}")


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_status(convert, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
