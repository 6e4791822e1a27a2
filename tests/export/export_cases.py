"""The small model of ``export_config.py`` and samples for it."""

from pathlib import Path

import torch
from stream_cases import Scene, randomize_statistics

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.export.comparison import compare_detections
from fsdbev.export.package import _find
from fsdbev.modeling.center_head.decode import Candidates

CONFIG = Path(__file__).with_name("export_config.py")


def small_model(num_frames=2):
    """Returns the model in eval mode, with random weights and BatchNorm statistics."""
    config = LazyConfig.load(str(CONFIG))
    config.model.num_frames = num_frames
    torch.manual_seed(5)  # detects all classes in the samples of the drive
    return randomize_statistics(instantiate(config.model).eval())


def drive(*key_frames, num_frames=2):
    """Returns samples of a drive, see ``Scene``."""
    scene = Scene("drive", num_frames=num_frames)
    return [scene.sample(number) for number in key_frames]


def detections_of(outputs):
    """Returns the detections of each sample from the outputs of a graph with NMS."""
    keys = ("boxes", "scores", "classes")
    counts = outputs["count"].tolist()
    return [Candidates(*(outputs[k][b, :n] for k in keys)) for b, n in enumerate(counts)]


def assert_finds_what_the_model_finds(outputs, model, samples, tolerance=1e-4):
    differences = compare_detections(detections_of(outputs), _find(model, samples), tolerance)
    assert differences.num_detections >= 20 * len(samples)
    assert differences.num_unmatched == 0, differences
