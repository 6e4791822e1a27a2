"""In evaluation the whole model computes what the public FSD-BEV release computed (README.md)."""

import numpy as np
import pytest
import torch
from small_model import HERE, load_model, record, relative_error, samples, share_of_equal_cells


@pytest.fixture(scope="module")
def evaluation():
    model = load_model("tiny_eval").eval()
    outputs = record(model, "msfe", "depth_net", "view_transform", "bev_encoder", "head")
    with torch.no_grad():
        outputs["detections"] = model(samples("tiny_eval"))
    return outputs, np.load(HERE / "tiny_eval.npz")


@pytest.mark.parametrize("t", [0, 1])
def test_image_branch_and_pooling_of_a_frame(evaluation, t):
    ours, reference = evaluation
    logits = ours["msfe"][t].logits.unflatten(0, (2, 6))
    assert relative_error(logits, reference[f"heatmap_logits_t{t}"]) < 1e-5
    assert relative_error(ours["depth_net"][t][0], reference[f"depth_t{t}"]) < 1e-4
    pooled = ours["view_transform"][t][0]
    assert share_of_equal_cells(pooled, reference[f"bev_pooled_t{t}"]) > 0.999


def test_bev_encoder_and_head_maps(evaluation):
    ours, reference = evaluation
    assert relative_error(ours["bev_encoder"][0], reference["bev_embed"]) < 1e-4
    for i, maps in enumerate(ours["head"][0]):
        for name, value in maps.items():
            assert relative_error(value, reference[f"task{i}.{name}"]) < 1e-4, (i, name)


@pytest.mark.parametrize("b", [0, 1])
def test_detections(evaluation, b):
    ours, reference = evaluation
    instances = ours["detections"][b]["instances"]
    scores, order = instances.scores.sort(descending=True, stable=True)
    expected = np.argsort(-reference[f"det{b}.scores"], kind="stable")
    np.testing.assert_allclose(scores, reference[f"det{b}.scores"][expected], atol=1e-5)
    np.testing.assert_array_equal(
        instances.pred_classes[order], reference[f"det{b}.labels"][expected]
    )
    boxes = instances.pred_boxes_3d.tensor[order]
    np.testing.assert_allclose(boxes, reference[f"det{b}.boxes"][expected], atol=1e-3)
