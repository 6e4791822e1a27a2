"""Digests of the checkpoints of a training."""

import hashlib

import torch

from fsdbev.checkpoint import read_checkpoint


def digest(value, into=None):
    """Returns the SHA-256 of nested containers: names, types, shapes and all bits of numbers."""
    sha = into or hashlib.sha256()
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            sha.update(repr(key).encode())
            digest(value[key], sha)
    elif isinstance(value, list | tuple):
        for item in value:
            digest(item, sha)
    elif isinstance(value, torch.Tensor):
        sha.update(f"{value.dtype}{tuple(value.shape)}".encode())
        sha.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    else:
        sha.update(repr(value).encode())
    return sha.hexdigest()


def state(output, name="model_final"):
    """Returns the digests of the parts of a checkpoint."""
    checkpoint = read_checkpoint(str(output / f"{name}.pth"))
    step = checkpoint["trainer"].pop("_trainer")
    parts = {**checkpoint, "optimizer": step["optimizer"], "scaler": step["grad_scaler"]}
    return {name: digest(part) for name, part in parts.items()}
