"""Parameter names of the FSD-BEV release and of torchvision, by names and shapes only."""

import pytest
import torch
from release_shapes import release_shapes, without_memory
from small_model import CONFIG

from fsdbev.checkpoint import Form, compare, form_of, to_our_names, to_release_names
from fsdbev.checkpoint.release import TABLE, our_name, release_name
from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.modeling.backbone.resnet import ResNet

CONFIGS = CONFIG.parents[2]


@pytest.mark.parametrize(("depth", "tensors"), [(50, 858), (101, 858 + 17 * 18)])
def test_release_checkpoint_fits_our_model_and_converts_back(depth, tensors):
    config = LazyConfig.load(str(CONFIGS / f"fsdbev_r{depth}_cbgs.py"))
    with torch.device("meta"):
        own = instantiate(config.model).state_dict()
    release = without_memory(release_shapes(depth))
    ours = to_our_names(release)
    report = compare(ours, own)
    assert report.problems() == [] and len(report.loaded) == len(own) == tensors
    assert ours.keys() == own.keys()  # including the counters, which a file may lack
    back = to_release_names(ours)
    assert list(back) == list(release) and all(back[k] is v for k, v in release.items())
    assert form_of(release) is Form.RELEASE and form_of(ours) is Form.OURS
    assert to_our_names(ours) == ours


def test_every_row_of_the_table_is_used_in_both_directions():
    depth_net = "img_view_transformer.depth_net."
    bevdet = {depth_net + name: () for name in ("weight", "bias")}
    release = release_shapes(50) | bevdet
    for column, names in enumerate([release, to_our_names(release)]):
        starts = [row[column].partition("<")[0] for row in TABLE]
        assert all(any(name.startswith(start) for name in names) for start in starts)
    assert len({row[0] for row in TABLE}) == len({row[1] for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize(
    ("release", "ours"),
    [
        ("img_neck.fpn_convs.2.conv.bias", "neck.output_convs.2.bias"),
        (
            "img_view_transformer.depth_net.context_se.conv_expand.weight",
            "depth_net.context_gate.expand.weight",
        ),
        (
            "img_view_transformer.depth_net.depth_conv.1.bn2.bias",
            "depth_net.depth_blocks.1.bn2.bias",
        ),
        ("img_view_transformer.depth_net.depth_conv.4.bias", "depth_net.depth_conv.bias"),
        ("img_bev_encoder_neck.up2.4.bias", "bev_encoder.neck.refine.3.bias"),
    ],
)
def test_a_name_in_both_directions(release, ours):
    assert our_name(release) == ours and release_name(ours) == release


@pytest.mark.parametrize(
    "name", ["img_backbones.conv1.weight", "img_view_transformer.frustum", "img_backboneXconv1"]
)
def test_names_that_are_not_in_the_table(name):
    assert our_name(name) is None
    assert to_our_names({name: 1, "img_backbone.conv1.weight": 2}) == {
        name: 1,
        "backbone.conv1.weight": 2,
    }


@pytest.mark.parametrize(
    ("bevdepth", "ours"),
    [
        ("model.backbone.img_backbone.layer1.0.bn1.bias", "backbone.layer1.0.bn1.bias"),
        ("model.backbone.depth_net.depth_mlp.fc2.weight", "depth_net.depth_gate.mlp.2.weight"),
        ("model.head.shared_conv.bn.weight", "head.shared_conv.bn.weight"),
        ("model.head.task_heads.5.rot.1.bias", "head.task_heads.5.rot.1.bias"),
    ],
)
def test_names_of_bevdepths_own_release(bevdepth, ours):
    assert our_name(bevdepth) == ours and release_name(ours) != bevdepth


def test_names_that_cannot_be_converted():
    with pytest.raises(ValueError, match="twice, once under our name: pts_bbox_head.a"):
        to_our_names({"pts_bbox_head.a": 1, "head.a": 2})
    with pytest.raises(ValueError, match="no names for msfe.mask_head.0.bias, extra.weight"):
        to_release_names({"msfe.mask_head.0.bias": 1, "backbone.a": 2, "extra.weight": 3})


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
@pytest.mark.parametrize("wrapper", ["", "module."])
def test_torchvision_resnet_becomes_the_backbone(depth, wrapper):
    with torch.device("meta"):
        backbone = ResNet(depth=depth).state_dict()
    foreign = {wrapper + k: v for k, v in backbone.items()} | {wrapper + "fc.weight": 1}
    assert form_of(foreign) is Form.TORCHVISION
    assert to_our_names(foreign) == {f"backbone.{k}": v for k, v in backbone.items()}


def test_listing_has_the_names_of_the_file():
    zeros = {k: torch.zeros(1) for k in ("backbone.a", "neck.lateral_convs.0.bias", "msfe.m")}
    weights = to_our_names({"img_backbone.a": torch.zeros(2), "b": zeros["msfe.m"]})
    report = compare(weights, zeros)
    assert report.num_problems() == 4 and report.loaded == ()
    assert report.listing(Form.RELEASE.name_of).split("\n") == [
        "  not in the file (2):",
        "    img_neck.lateral_convs.0.conv.bias",
        "    msfe.m",
        "  of another shape (1):",
        "    img_backbone.a: (2,), not (1,)",
        "  in the file but not in the model (1):",
        "    b",
    ]
