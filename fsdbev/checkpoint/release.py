"""Parameter names of the public FSD-BEV release (mmdetection3d) and ours, in one table.

BEVDet, BEVDepth and SA-BEV share the release's code base, and so its names.
"""

from __future__ import annotations

import re

_DEPTH = "img_view_transformer.depth_net"
_ASPP = f"{_DEPTH}.depth_conv.3"

#: (start of a name in the release, what stands there in ours), read in both directions. ``<level>``
#: stands for any text that ``FIELDS`` allows, the same on both sides.
TABLE: tuple[tuple[str, str], ...] = (
    # image branch
    ("img_backbone.", "backbone."),
    ("img_neck.lateral_convs.<level>.conv.", "neck.lateral_convs.<level>."),
    ("img_neck.fpn_convs.<level>.conv.", "neck.output_convs.<level>."),
    ("img_roi_head.hm_conv.", "msfe.heatmap_head."),
    # depth network
    (f"{_DEPTH}.bn.", "depth_net.camera_norm."),
    (f"{_DEPTH}.reduce_conv.", "depth_net.reduce."),
    (f"{_DEPTH}.context_conv.", "depth_net.context_conv."),
    (f"{_DEPTH}.<use>_mlp.fc1.", "depth_net.<use>_gate.mlp.0."),
    (f"{_DEPTH}.<use>_mlp.fc2.", "depth_net.<use>_gate.mlp.2."),
    (f"{_DEPTH}.<use>_se.conv_<step>.", "depth_net.<use>_gate.<step>."),
    (f"{_DEPTH}.depth_conv.<block>.", "depth_net.depth_blocks.<block>."),
    (f"{_ASPP}.aspp1.atrous_conv.", "depth_net.aspp.branches.0.0."),
    (f"{_ASPP}.aspp1.bn.", "depth_net.aspp.branches.0.1."),
    (f"{_ASPP}.aspp2.atrous_conv.", "depth_net.aspp.branches.1.0."),
    (f"{_ASPP}.aspp2.bn.", "depth_net.aspp.branches.1.1."),
    (f"{_ASPP}.aspp3.atrous_conv.", "depth_net.aspp.branches.2.0."),
    (f"{_ASPP}.aspp3.bn.", "depth_net.aspp.branches.2.1."),
    (f"{_ASPP}.aspp4.atrous_conv.", "depth_net.aspp.branches.3.0."),
    (f"{_ASPP}.aspp4.bn.", "depth_net.aspp.branches.3.1."),
    (f"{_ASPP}.global_avg_pool.1.", "depth_net.aspp.global_branch.0."),
    (f"{_ASPP}.global_avg_pool.2.", "depth_net.aspp.global_branch.1."),
    (f"{_ASPP}.conv1.", "depth_net.aspp.project.0."),
    (f"{_ASPP}.bn1.", "depth_net.aspp.project.1."),
    (f"{_DEPTH}.depth_conv.4.", "depth_net.depth_conv."),
    # BEVDet's depth network is one convolution
    (f"{_DEPTH}.weight", "depth_net.conv.weight"),
    (f"{_DEPTH}.bias", "depth_net.conv.bias"),
    # BEV branch
    ("pre_process_net.layers.0.", "temporal_stage.stage."),
    ("img_bev_encoder_backbone.layers.", "bev_encoder.stages."),
    ("img_bev_encoder_neck.conv.", "bev_encoder.neck.merge."),
    # the release counts its upsampling as the first module of up2
    ("img_bev_encoder_neck.up2.1.", "bev_encoder.neck.refine.0."),
    ("img_bev_encoder_neck.up2.2.", "bev_encoder.neck.refine.1."),
    ("img_bev_encoder_neck.up2.4.", "bev_encoder.neck.refine.3."),
    # head: the same names
    ("pts_bbox_head.", "head."),
)

#: (start of a name in BEVDepth's own release, what stands there in mmdetection3d's code), for the
#: parts that it builds alike: not its necks and BEV encoder.
BEVDEPTH_RELEASE = (
    ("model.backbone.img_backbone.", "img_backbone."),
    ("model.backbone.depth_net.", f"{_DEPTH}."),
    ("model.head.shared_conv.", "pts_bbox_head.shared_conv."),
    ("model.head.task_heads.", "pts_bbox_head.task_heads."),
)

#: What a field of ``TABLE`` stands for, as a regular expression.
FIELDS = {"level": r"\d+", "use": "context|depth", "step": "reduce|expand", "block": "[012]"}


def our_name(release: str) -> str | None:
    """Our name of a parameter of the release, or of BEVDepth's; None where the tables have no such
    name."""
    for own, common in BEVDEPTH_RELEASE:
        if release.startswith(own):
            release = common + release.removeprefix(own)
    return _renamed(release, _TO_OURS)


def release_name(ours: str) -> str | None:
    """The release's name of one of our parameters; None where the table has no such name."""
    return _renamed(ours, _TO_RELEASE)


def _renamed(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, replacement in rules:
        if match := pattern.match(name):
            return match.expand(replacement) + name[match.end() :]
    return None


def _rule(old: str, new: str) -> tuple[re.Pattern[str], str]:
    """The pattern of a template, and the other template as ``Match.expand`` takes it."""
    pattern = re.sub(r"<(\w+)>", lambda field: f"(?P{field[0]}{FIELDS[field[1]]})", re.escape(old))
    return re.compile(pattern), new.replace("<", r"\g<")


_TO_OURS = [_rule(release, ours) for release, ours in TABLE]
_TO_RELEASE = [_rule(ours, release) for release, ours in TABLE]
