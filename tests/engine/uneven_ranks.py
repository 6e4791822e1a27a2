"""Work of the two processes of test_uneven_ranks.py."""

import copy
import json
from pathlib import Path

import torch
from export_cases import CONFIG
from toy_training import ToyModel

from fsdbev.d2.config import LazyCall as L, LazyConfig, instantiate
from fsdbev.d2.engine import create_ddp_model
from fsdbev.d2.utils import comm
from fsdbev.data.fake import fake_samples
from fsdbev.engine import evaluate
from fsdbev.structures import NUSCENES_CLASSES, ClassSet


def small_fsdbev():
    """Returns FSDBEV in the sizes of export_config.py with nuScenes' classes, and ``train.ddp``."""
    config = LazyConfig.load(str(CONFIG))
    config.model.classes = L(ClassSet)(**NUSCENES_CLASSES.to_dict())
    torch.manual_seed(0)
    return instantiate(config.model).train(), config.train.ddp


def batch(*, empty, seed):
    """Returns two samples; if ``empty``, without boxes, depth and foreground."""
    sizes = {"num_frames": 2, "num_cameras": 2, "image_size": (32, 64)}
    samples = fake_samples(2, **sizes, training=True, seed=seed)
    for sample in samples if empty else ():
        sample["instances"] = sample["instances"][:0]
        for name in ("gt_depth", "gt_foreground", "gt_heatmap"):
            sample[name] = torch.zeros_like(sample[name])
    return samples


def gradients(model, samples, rank):
    torch.manual_seed(rank)  # for dropout
    model.zero_grad()
    sum(model(samples).values()).backward()
    return {
        name.removeprefix("module."): None if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


def gradient_differences():
    """Returns, for each iteration, the largest difference between the gradients of DDP and the mean
    of the ranks' gradients, relative to the largest one; -1 if a parameter has no gradient."""
    model, ddp = small_fsdbev()
    single, together = copy.deepcopy(model), create_ddp_model(model, device_ids=None, **ddp)
    found = []
    for empty_rank in (1, 0, 1):
        rank = comm.get_rank()
        samples = batch(empty=rank == empty_rank, seed=rank)
        got = gradients(together, samples, rank)
        # Each rank its own, at the same time: the ranks share the divisors of the head's losses.
        parts = comm.all_gather(gradients(single, samples, rank))
        if any(grad is None for part in (got, *parts) for grad in part.values()):
            found.append(-1.0)
            continue
        means = {name: (parts[0][name] + parts[1][name]) / 2 for name in got}
        largest = max(float(grad.abs().max()) for grad in means.values())
        found.append(max(float((got[n] - means[n]).abs().max()) for n in got) / largest)
    return found


def evaluate_few(lengths, output):
    """Returns the metrics of each number of samples; None on ranks above 0."""
    found = []
    for length in lengths:
        cfg = LazyConfig.load(str(Path(__file__).with_name("toy_config.py")))
        cfg.train.output_dir = output
        cfg.dataloader.test.length = length
        torch.manual_seed(0)
        found.append(evaluate(cfg, ToyModel().eval()).get("toy"))
    return found


def work(args):
    """Runs on each rank and writes its results to ``args.output``."""
    found = {"differences": gradient_differences()}
    found["metrics"] = evaluate_few(args.lengths, args.output)
    Path(args.output, f"{comm.get_rank()}.json").write_text(json.dumps(found))
