"""Parameter names of the public FSD-BEV release -> ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")

_DEPTH = r"img_view_transformer\.depth_net"
_ASPP = rf"{_DEPTH}\.depth_conv\.3"

#: (pattern of the start of a release name, what stands there in ours); the first match counts.
RULES: tuple[tuple[str, str], ...] = (
    # image branch
    (r"img_backbone\.", r"backbone."),
    (r"img_neck\.lateral_convs\.(\d)\.conv\.", r"neck.lateral_convs.\1."),
    (r"img_neck\.fpn_convs\.(\d)\.conv\.", r"neck.output_convs.\1."),
    (r"img_roi_head\.hm_conv\.", r"msfe.heatmap_head."),
    # depth network
    (rf"{_DEPTH}\.bn\.", r"depth_net.camera_norm."),
    (rf"{_DEPTH}\.reduce_conv\.", r"depth_net.reduce."),
    (rf"{_DEPTH}\.context_conv\.", r"depth_net.context_conv."),
    (rf"{_DEPTH}\.(context|depth)_mlp\.fc1\.", r"depth_net.\1_gate.mlp.0."),
    (rf"{_DEPTH}\.(context|depth)_mlp\.fc2\.", r"depth_net.\1_gate.mlp.2."),
    (rf"{_DEPTH}\.(context|depth)_se\.conv_(reduce|expand)\.", r"depth_net.\1_gate.\2."),
    (rf"{_DEPTH}\.depth_conv\.([012])\.", r"depth_net.depth_blocks.\1."),
    (rf"{_ASPP}\.aspp1\.atrous_conv\.", r"depth_net.aspp.branches.0.0."),
    (rf"{_ASPP}\.aspp1\.bn\.", r"depth_net.aspp.branches.0.1."),
    (rf"{_ASPP}\.aspp2\.atrous_conv\.", r"depth_net.aspp.branches.1.0."),
    (rf"{_ASPP}\.aspp2\.bn\.", r"depth_net.aspp.branches.1.1."),
    (rf"{_ASPP}\.aspp3\.atrous_conv\.", r"depth_net.aspp.branches.2.0."),
    (rf"{_ASPP}\.aspp3\.bn\.", r"depth_net.aspp.branches.2.1."),
    (rf"{_ASPP}\.aspp4\.atrous_conv\.", r"depth_net.aspp.branches.3.0."),
    (rf"{_ASPP}\.aspp4\.bn\.", r"depth_net.aspp.branches.3.1."),
    (rf"{_ASPP}\.global_avg_pool\.1\.", r"depth_net.aspp.global_branch.0."),
    (rf"{_ASPP}\.global_avg_pool\.2\.", r"depth_net.aspp.global_branch.1."),
    (rf"{_ASPP}\.conv1\.", r"depth_net.aspp.project.0."),
    (rf"{_ASPP}\.bn1\.", r"depth_net.aspp.project.1."),
    (rf"{_DEPTH}\.depth_conv\.4\.", r"depth_net.depth_conv."),
    # BEV branch
    (r"pre_process_net\.layers\.0\.", r"temporal_stage.stage."),
    (r"img_bev_encoder_backbone\.layers\.", r"bev_encoder.stages."),
    (r"img_bev_encoder_neck\.conv\.", r"bev_encoder.neck.merge."),
    # the release counts its upsampling as the first module of up2
    (r"img_bev_encoder_neck\.up2\.1\.", r"bev_encoder.neck.refine.0."),
    (r"img_bev_encoder_neck\.up2\.2\.", r"bev_encoder.neck.refine.1."),
    (r"img_bev_encoder_neck\.up2\.4\.", r"bev_encoder.neck.refine.3."),
    # head: the same names
    (r"pts_bbox_head\.", r"head."),
)


def convert_key(key: str) -> str:
    """Our name of a parameter of the release.

    Raises:
        ValueError: no rule knows it.
    """
    for pattern, ours in RULES:
        match = re.match(pattern, key)
        if match:
            return match.expand(ours) + key[match.end() :]
    raise ValueError(f"{key!r} is no parameter of the FSD-BEV release that a rule knows")


def convert_state_dict(release: Mapping[str, Value]) -> dict[str, Value]:
    """A state dict in the release's names -> the same values in ours."""
    return {convert_key(key): value for key, value in release.items()}


def release_keys(keys: Iterable[str]) -> dict[str, str]:
    """Our name -> the release's name, of the given release names."""
    return {convert_key(key): key for key in keys}
