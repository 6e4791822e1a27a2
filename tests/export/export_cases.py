"""The small model of ``export_config.py``, and samples for it."""

from pathlib import Path

import torch
from stream_cases import Scene

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.export.comparison import compare_detections
from fsdbev.export.package import _find
from fsdbev.modeling.center_head.decode import Candidates, CenterTask, CircleNMS, RotatedNMS

CONFIG = Path(__file__).with_name("export_config.py")


def two_tasks():
    """One of two classes and one of one, each with its kind of NMS."""
    return (
        CenterTask(("car", "bus"), RotatedNMS(0.2, dim_scale=(1.0, 0.5))),
        CenterTask(("barrier",), CircleNMS(60.0)),
    )


def small_model(num_frames=2):
    """In evaluation mode, with random weights and statistics that are not those of a fresh one."""
    config = LazyConfig.load(str(CONFIG))
    config.model.num_frames = num_frames
    torch.manual_seed(0)
    model = instantiate(config.model).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


def drive(*key_frames, num_frames=2):
    """Samples of a scene that drives on; see ``Scene``."""
    scene = Scene("drive", num_frames=num_frames)
    return [scene.sample(number) for number in key_frames]


def detections_of(outputs):
    """Detections of each sample from the outputs of a graph with NMS."""
    keys = ("boxes", "scores", "classes")
    counts = outputs["count"].tolist()
    return [Candidates(*(outputs[k][b, :n] for k in keys)) for b, n in enumerate(counts)]


def assert_finds_what_the_model_finds(outputs, model, samples, tolerance=1e-4):
    differences = compare_detections(detections_of(outputs), _find(model, samples), tolerance)
    assert differences.num_detections >= 20 * len(samples)
    assert differences.num_unmatched == 0, differences
