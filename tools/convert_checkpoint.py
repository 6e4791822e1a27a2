#!/usr/bin/env python
"""Converts weights to this project's names and format, or back to the FSD-BEV release's names.

IN is a checkpoint of the FSD-BEV release (the EMA files too), torchvision's ResNet weights, or a
checkpoint of this project, of which the EMA weights are taken. It may be a .pth or a .safetensors
file; code in it is never run. OUT is the format that its ending names, .pth or .safetensors, and
holds weights alone. Nothing may be missing, left over or of another shape: the weights are checked
against a model of configs/, the one they differ least from, or against that of --config-file.
With --foreign-objects a file may hold more than tensors and numbers: the tensors by name are taken
out in a process of their own, and classes and functions that the file names are not even imported.

  release to ours:       convert_checkpoint.py epoch_24_ema.pth fsdbev_r50.safetensors
  ours to the release:   convert_checkpoint.py output/model_final.pth release.pth --reverse
  ImageNet backbone:     convert_checkpoint.py resnet50-0676ba61.pth backbone_r50.pth
  with other objects:    convert_checkpoint.py theirs.pth out.pth --foreign-objects
  another model:         convert_checkpoint.py in.pth out.pth \\
                             --config-file configs/fsdbev_r50_cbgs.py model.depth_bins.step=0.25

Train and evaluate from OUT with train_net.py ... train.init_checkpoint=OUT; it reads each of these
forms of IN as well.
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
    check_ending,
    compare,
    extract_weights,
    form_of,
    read_weights,
    to_our_names,
    to_release_names,
    write_weights,
)
from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.modeling.backbone.resnet import ARCHITECTURES, ResNet

StateDict = dict[str, Tensor]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("input", metavar="IN", help="checkpoint to convert")
    parser.add_argument("output", metavar="OUT", help=".pth or .safetensors file to write")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for --config-file")
    parser.add_argument("--reverse", action="store_true", help="OUT gets the release's names")
    parser.add_argument("--config-file", help="config of the model that the weights are for")
    parser.add_argument(
        "--foreign-objects", action="store_true", help="IN may hold other objects: leave them out"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    args = parser.parse_intermixed_args(arguments)
    if args.overrides and not args.config_file:
        parser.error(f"{args.overrides[0]!r}: overrides are for --config-file, which is not given")
    return args


def check_output(path: str, source: str, force: bool) -> None:
    """ValueError unless ``path`` may be written."""
    check_ending(path)
    if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
        raise ValueError(f"IN and OUT are the same file, {path!r}: give OUT another name")
    if os.path.exists(path) and not force:
        raise ValueError(f"{path!r} is there already; --force replaces it")
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError(
            f"{path!r} cannot be written: it is a folder, or its folder does not exist"
        )


def config_model(path: str, overrides: Sequence[str] = ()) -> StateDict:
    """Names and shapes of the model of a config; no memory is taken for its values."""
    config = load_config(path, overrides)
    if "model" not in config:
        raise ValueError(f"{path!r} is no config of a model: it has no 'model'")
    with torch.device("meta"):
        return instantiate(config.model).state_dict()


def candidates(args: argparse.Namespace, form: Form) -> Iterator[tuple[str, StateDict]]:
    """What the weights may be for: names for people, and names and shapes of parameters."""
    if args.config_file:
        own = config_model(args.config_file, args.overrides)
        if form is Form.TORCHVISION:
            own = {name: value for name, value in own.items() if name.startswith("backbone.")}
        yield " ".join([args.config_file, *args.overrides]), own
    elif form is Form.TORCHVISION:
        for depth in ARCHITECTURES:
            with torch.device("meta"):
                own = to_our_names(ResNet(depth=depth).state_dict())
            yield f"ResNet-{depth}", own
    else:
        for path in sorted((ROOT / "configs").glob("*.py")):
            yield f"configs/{path.name}", config_model(str(path))


def check(weights: StateDict, args: argparse.Namespace, form: Form) -> list[str]:
    """The models that our ``weights`` fit exactly.

    Raises:
        ValueError: there is none; lists what does not fit the nearest, in the names of the file.
    """
    reports = {name: compare(weights, own) for name, own in candidates(args, form)}
    nearest = min(reports, key=lambda name: reports[name].num_problems())
    report = reports[nearest]
    if not report.loaded:
        raise ValueError(
            f"{args.input!r} holds no weights of FSD-BEV or of a ResNet by torchvision's names, "
            f"but {len(weights)} others: {', '.join(list(weights)[:5])}, ..."
        )
    if report.num_problems():
        hint = "" if args.config_file else "; if it is for another model, give --config-file"
        raise ValueError(
            f"{args.input!r}, with names of {form.value}, does not fit {nearest}{hint}\n"
            f"{report.listing(form.name_of)}"
        )
    return [name for name, report in reports.items() if not report.num_problems()]


def convert(args: argparse.Namespace) -> None:
    """Reads, checks and writes, and prints a summary."""
    check_output(args.output, args.input, args.force)
    if args.foreign_objects:
        weights, source = extract_weights(args.input), f"{args.input} (its tensors alone)"
    else:
        weights, source = read_weights(args.input)
    form = form_of(weights)
    if args.reverse and form is Form.TORCHVISION:
        raise ValueError(f"{args.input!r} is {form.value}; --reverse is for whole models")
    weights = to_our_names(weights)
    models = check(weights, args, form)
    parts = Counter(name.split(".")[0] for name in weights)
    target = Form.RELEASE if args.reverse else Form.OURS
    if args.reverse:
        weights = to_release_names(weights)
    write_weights(weights, args.output, entry="state_dict" if args.reverse else "model")
    print(f"read {source}: names of {form.value}")
    print("nothing missing, nothing left over for", " and ".join(models))
    print(f"{len(weights)} tensors:", ", ".join(f"{part} {n}" for part, n in sorted(parts.items())))
    print(f"wrote {args.output}: names of {target.value}")


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_status(convert, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
