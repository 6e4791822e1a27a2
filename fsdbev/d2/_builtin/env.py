"""Built-in side of ``detectron2.utils.env`` and ``collect_env``."""

import logging
import os
import platform
import random
import sys
from importlib import metadata

import numpy as np
import torch


def seed_all_rng(seed: int | None = None) -> None:
    """Seeds random, numpy and torch on all devices; by the operating system's if None."""
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
        logging.getLogger(__name__).info("Using a generated random seed %d", seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def collect_env_info() -> str:
    """A table of what a bug report should name: platform, versions, devices."""
    rows = [
        ("platform", platform.platform()),
        ("python", sys.version.replace("\n", " ")),
        ("CUDA of torch", torch.version.cuda or "none"),
    ]
    packages = ("torch", "torchvision", "numpy", "fvcore", "iopath", "omegaconf", "hydra-core")
    rows += [(package, _version(package)) for package in packages]
    for index in range(torch.cuda.device_count()):
        rows.append((f"GPU {index}", torch.cuda.get_device_name(index)))
    rows.append(("CPU threads of torch", str(torch.get_num_threads())))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
