"""Built-in ``detectron2.utils.env``: seeds of the random generators."""

import logging
import os
import random

import numpy as np
import torch


def seed_all_rng(seed: int | None = None) -> None:
    """Seeds ``random``, numpy and torch on all devices.

    Args:
        seed: the seed; None draws one from the operating system.
    """
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
        logging.getLogger(__name__).info("Using a generated random seed %d", seed)
    np.random.seed(seed % 2**32)  # numpy accepts 32 bits only
    torch.manual_seed(seed)
    random.seed(seed)
    # As in Detectron2. It only affects child processes; this interpreter has its hash seed already.
    os.environ["PYTHONHASHSEED"] = str(seed % 2**32)  # Python does not start with a larger one
