"""The weights of a ``.pth`` file that holds other objects as well, without running its code.

Every class and function that the file names, and that torch does not know as harmless, is replaced
by an inert stand-in: none is imported, none is called. It is done in a process of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.serialization import safe_globals

from .files import check_archive, is_archive
from .safetensors_file import read_safetensors, write_safetensors

_MOST_NAMES = 200  # of classes and functions in one file
_ENTRIES = ("state_dict", "model")


class _Placeholder:
    """Takes the place of any class or function; takes anything and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def extract_weights(path: str) -> dict[str, torch.Tensor]:
    """The tensors by name of a file, at its top or under ``state_dict`` or ``model``; all else in
    it is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, cannot be read like this, or holds no tensors by name.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint {path!r} does not exist")
    if is_archive(path):
        check_archive(path)
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "weights.safetensors")
        root = str(Path(__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-m", __name__, os.path.abspath(path), output],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": root},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ValueError(f"{path!r}: {reason[-1]}")
        # copies, as the file is gone afterwards
        return {name: value.clone() for name, value in read_safetensors(output).items()}


def weights_beside_placeholders(path: str) -> dict[str, torch.Tensor]:
    """What :func:`extract_weights` does, in this process."""
    return _tensors(_load_with_placeholders(path))


def _load_with_placeholders(path: str) -> Any:
    names: list[str] = []
    while True:
        try:
            with safe_globals([(_Placeholder, name) for name in names]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load has no one error for what it refuses
            found = re.search(r"Unsupported global: GLOBAL (\S+) ", str(error))
            # torch leaves out "builtins."
            new = [found[1], f"builtins.{found[1]}"] if found else []
            if not found or found[1] in names or len(names) > 2 * _MOST_NAMES:
                line = str(error).partition("Check the documentation")[0].strip().splitlines()
                raise ValueError(
                    f"refused: {line[-1] if line else type(error).__name__}"
                ) from error
            names += new


def _tensors(content: Any) -> dict[str, torch.Tensor]:
    for entry in _ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping):
        raise ValueError(
            "holds no tensors by name, but an object. Ask who made it for its state_dict"
        )
    tensors = {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise ValueError("holds no tensors by name, at its top or under state_dict or model")
    return tensors


def _main(path: str, output: str) -> None:
    try:
        write_safetensors(weights_beside_placeholders(path), output)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main(*sys.argv[1:])
