"""Inputs of exported graphs, computed from sample dicts.

Shapes: B samples, T frames (0 is the key frame), N cameras, (H, W) image size, (h, w) feature map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fsdbev.modeling import FSDBEV
from fsdbev.structures import Cameras

from .graph import GraphOptions


@torch.no_grad()
def graph_inputs(
    model: FSDBEV,
    samples: Sequence[dict],
    options: GraphOptions,
    *,
    score_threshold: float | None = None,
) -> dict[str, Tensor]:
    """Computes the inputs of a graph by name, in the order of its ``forward``.

    Args:
        model: the model of the graph.
        samples: B sample dicts of the model, with the images of all frames.
        options: options of the graph.
        score_threshold: scores of boxes must be higher than this; None takes the model's threshold.

    Returns:
        Contiguous tensors on the model's device.

    Raises:
        ValueError: the samples differ in their number of cameras, image size or number of frames.
    """
    if score_threshold is None:
        score_threshold = model.head.decoder.score_threshold
    counts = [len(sample["image_aug"]) for sample in samples]
    if len(set(counts)) > 1:
        raise ValueError(
            f"a graph takes samples with the same number of cameras, got {counts}; give samples of "
            "one rig"
        )
    cameras, shape = Cameras.from_samples(samples), (len(samples), -1)
    images = model.stack_images(samples).unflatten(1, shape).transpose(0, 1)
    inputs = {
        "images": images[:, 0] if options.stream else images,
        "camera_vector": cameras.camera_vector().unflatten(0, shape),
        "score_threshold": torch.tensor(score_threshold, dtype=torch.float32),
    }
    if options.cells:
        inputs["cells"] = frame_cells(model, cameras, images)
    else:
        matrices = [cameras.image2bev(t).unflatten(0, shape) for t in range(model.num_frames)]
        inputs["undo_image_aug"] = cameras.undo_image_aug().unflatten(0, shape)
        inputs["image2bev"] = torch.stack(matrices, dim=1)
    if options.stream:
        inputs |= _earlier_frames(model, images)
    # A compiled package reads all later inputs with the strides of these examples.
    return {name: value.to(model.device).contiguous() for name, value in inputs.items()}


def frame_cells(model: FSDBEV, cameras: Cameras, images: Tensor) -> Tensor:
    """Computes the (B, T, N, D, h, w) int32 BEV cells of all frustum points.

    Cells of the key frame depend only on the rig. Cells of earlier frames also depend on the motion
    of the ego (docs/model.md, "View transform").
    """
    # The layers determine the size of the feature map, so it is taken from the features of a frame.
    one_frame = model.extract_image_features(images[0, 0])
    feature_size = tuple(one_frame.foreground.shape[-2:])
    cells = [
        model.view_transform.with_cells(view_to_bev, feature_size).cells
        for view_to_bev in model.views_to_bev(cameras, images.shape[-2:], None)
    ]
    return torch.stack([c.unflatten(0, (len(images), -1)) for c in cells], dim=1)


def _earlier_frames(model: FSDBEV, images: Tensor) -> dict[str, Tensor]:
    """Computes the features of earlier frames that a stream would have kept."""
    frames = [
        model.extract_image_features(images[:, t].flatten(0, 1)) for t in range(1, images.shape[1])
    ]
    shape = (len(images), -1)
    return {
        "earlier_features": torch.stack([f.features.unflatten(0, shape) for f in frames], dim=1),
        "earlier_foreground": torch.stack(
            [f.foreground.unflatten(0, shape) for f in frames], dim=1
        ),
        "has_earlier": torch.ones(images.shape[:1] + (len(frames),), dtype=torch.bool),
    }
