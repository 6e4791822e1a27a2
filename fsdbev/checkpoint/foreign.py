"""Extraction of weights from a ``.pth`` file that contains other objects, without running its code.

Every class and function that the file refers to and that torch does not list as safe is replaced by
an inert placeholder; none is imported or called. The extraction runs in a subprocess.
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

#: Largest number of classes and functions in one file. Each costs another attempt to load it.
_MAX_NAMES = 200
#: Entries that are searched for weights, from the outside to the inside.
_ENTRIES = ("state_dict", "model")


class _Placeholder:
    """Inert replacement of a class or function, which accepts any arguments and state."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def extract_weights(path: str) -> dict[str, torch.Tensor]:
    """Returns the tensors by name of a file, at the top level, under ``state_dict`` or under
    ``model``; other content is dropped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, contains something that torch refuses, or has no tensors by
            name.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint {path!r} does not exist")
    if is_archive(path):
        check_archive(path)
    with tempfile.TemporaryDirectory() as folder:
        # The result comes back as safetensors, a format that cannot contain objects.
        output = os.path.join(folder, "weights.safetensors")
        root = str(Path(__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-m", __name__, os.path.abspath(path), output],
            cwd=folder,  # "python -m" imports from the working directory first; this one is empty
            env=os.environ | {"PYTHONPATH": root},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ValueError(f"{path!r}: {reason[-1]}")
        # Copies, because the tensors may be backed by the file, which is removed here.
        return {name: value.clone() for name, value in read_safetensors(output)[0].items()}


def load_tensors_with_placeholders(path: str) -> dict[str, torch.Tensor]:
    """Returns the tensors of :func:`extract_weights`, but reads the file in this process."""
    return _tensors_by_name(_load_with_placeholders(path))


def _load_with_placeholders(path: str) -> Any:
    """Loads a file, with a placeholder for each name that torch refuses.

    torch reports one refused name at a time, so the file is loaded again after each.

    Raises:
        ValueError: torch refuses the file for another reason, or there are too many names.
    """
    names: list[str] = []
    while True:
        try:
            with safe_globals([(_Placeholder, name) for name in names]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises many kinds of errors
            found = re.search(r"Unsupported global: GLOBAL (\S+) ", str(error))
            # torch omits "builtins." from names, so both forms are allowed. A name that is refused
            # a second time would be refused forever.
            new = [found[1], f"builtins.{found[1]}"] if found else []
            if not found or found[1] in names or len(names) > 2 * _MAX_NAMES:
                line = str(error).partition("Check the documentation")[0].strip().splitlines()
                raise ValueError(
                    f"refused: {line[-1] if line else type(error).__name__}"
                ) from error
            names += new


def _tensors_by_name(content: Any) -> dict[str, torch.Tensor]:
    """Returns contiguous copies of the tensors of a loaded file.

    Raises:
        ValueError: there are none.
    """
    for entry in _ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping):
        raise ValueError(
            "contains no tensors by name, but an object. Ask its author for the state_dict"
        )
    tensors = {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise ValueError("contains no tensors by name at the top, in state_dict or in model")
    return tensors


def _main(path: str, output: str) -> None:
    """Runs in the subprocess; the last line of stderr is the reason of a failure."""
    try:
        write_safetensors(load_tensors_with_placeholders(path), output)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main(*sys.argv[1:])
