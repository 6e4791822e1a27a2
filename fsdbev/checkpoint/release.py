"""Table of parameter names: the public FSD-BEV release (mmdetection3d) and this project.

BEVDet, BEVDepth and SA-BEV share the release's code base and therefore its names.
"""

from __future__ import annotations

import re

_DEPTH = "img_view_transformer.depth_net"
_ASPP = f"{_DEPTH}.depth_conv.3"

#: (prefix of a name in the release, prefix of our name), used in both directions. A field such as
#: ``<level>`` matches the pattern in ``FIELDS`` and is equal on both sides.
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
    # BEVDet's depth network is a single convolution
    (f"{_DEPTH}.weight", "depth_net.conv.weight"),
    (f"{_DEPTH}.bias", "depth_net.conv.bias"),
    # BEV branch
    ("pre_process_net.layers.0.", "temporal_stage.stage."),
    ("img_bev_encoder_backbone.layers.", "bev_encoder.stages."),
    ("img_bev_encoder_neck.conv.", "bev_encoder.neck.merge."),
    # the first module of the release's up2 is the upsampling, which has no parameters
    ("img_bev_encoder_neck.up2.1.", "bev_encoder.neck.refine.0."),
    ("img_bev_encoder_neck.up2.2.", "bev_encoder.neck.refine.1."),
    ("img_bev_encoder_neck.up2.4.", "bev_encoder.neck.refine.3."),
    # head: the same names
    ("pts_bbox_head.", "head."),
)

#: (prefix in BEVDepth's own release, prefix in the mmdetection3d code) of the parts that are equal;
#: its necks and BEV encoder differ.
BEVDEPTH_RELEASE = (
    ("model.backbone.img_backbone.", "img_backbone."),
    ("model.backbone.depth_net.", f"{_DEPTH}."),
    ("model.head.shared_conv.", "pts_bbox_head.shared_conv."),
    ("model.head.task_heads.", "pts_bbox_head.task_heads."),
)

#: Regular expression of each field of ``TABLE``.
FIELDS = {"level": r"\d+", "use": "context|depth", "step": "reduce|expand", "block": "[012]"}


def our_name(release: str) -> str | None:
    """Returns our name of a parameter of the FSD-BEV or BEVDepth release, None if the tables have
    no entry for it."""
    for bevdepth, common in BEVDEPTH_RELEASE:
        if release.startswith(bevdepth):
            release = common + release.removeprefix(bevdepth)
    return _renamed(release, _TO_OURS)


def release_name(ours: str) -> str | None:
    """Returns the release's name of our parameter, None if the table has no entry for it."""
    return _renamed(ours, _TO_RELEASE)


def _renamed(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    """Replaces the prefix of a name by the first rule that matches."""
    for pattern, replacement in rules:
        if match := pattern.match(name):
            return match.expand(replacement) + name[match.end() :]
    return None


def _rule(old: str, new: str) -> tuple[re.Pattern[str], str]:
    """Compiles the prefix ``old`` to a pattern and ``new`` to a template of ``Match.expand``."""
    pattern = re.escape(old)
    for field, expression in FIELDS.items():
        pattern = pattern.replace(f"<{field}>", f"(?P<{field}>{expression})")
    return re.compile(pattern), new.replace("<", r"\g<")


_TO_OURS = [_rule(release, ours) for release, ours in TABLE]
_TO_RELEASE = [_rule(ours, release) for release, ours in TABLE]
