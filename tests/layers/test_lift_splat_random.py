"""lift_splat: random sizes against the reference, malformed arguments."""

from importlib import import_module

import pytest
import torch
from hypothesis import given, settings, strategies as st
from lift_splat_cases import ALL, gradients, reference, scene, through_cells
from nms_cases import needs_extension

from fsdbev.layers import frustum_cells, lift_splat, splat_cells

each = pytest.mark.parametrize("op", ALL.values(), ids=ALL.keys())

SIZES = st.fixed_dictionaries(
    {
        "sets": st.integers(0, 3),
        "samples": st.integers(0, 3),
        "cameras": st.integers(1, 7),
        "bins": st.integers(0, 9),
        "channels": st.integers(0, 40),
        "height": st.integers(0, 5),
        "width": st.integers(0, 7),
    }
)


@needs_extension
@settings(max_examples=40, deadline=None)
@given(
    sizes=SIZES,
    seed=st.integers(0, 2**20),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    threshold=st.sampled_from([-1.0, 0.3, 0.9, 2.0]),
    special=st.sampled_from([None, torch.nan, torch.inf]),
)
def test_random_sizes(sizes, seed, dtype, threshold, special):
    samples, cameras = sizes.pop("samples"), sizes.pop("cameras")
    arguments = scene(
        **sizes, views=samples * cameras, outputs=max(samples, 1), dtype=dtype, seed=seed
    )
    arguments |= {"depth_threshold": threshold, "num_outputs": max(samples, 1)}
    if special is not None and arguments["image2bev"].numel():
        arguments["image2bev"][::2, 1, 2] = special  # such a view reaches no cell
        assert (lift_splat(**arguments)[:, 0].isfinite()).all()
    # Without views the reference returns a constant, which has no gradients.
    run = gradients if samples and sizes["sets"] else lambda op, a: [op(**a)]
    expected = run(reference, arguments)
    for op in (lift_splat, through_cells):
        for got, want in zip(run(op, arguments), expected):
            torch.testing.assert_close(got, want)


MALFORMED = [
    (
        lambda a: {"weights": a["weights"][0]},
        r"weights must be \(S, V, D, h, w\)|feature_size must be \(h, w\)",
    ),
    (lambda a: {"foreground": a["foreground"][:1]}, r"foreground must be .*2, 3, 3, 4"),
    (lambda a: {"foreground": a["foreground"][0, 0, 0, 0]}, "foreground must be"),
    (lambda a: {"context": a["context"][:2]}, r"context must be .*3, 5, 3, 4.* got .*2, 5, 3"),
    (lambda a: {"context": a["context"][0]}, "context must be"),
    (lambda a: {"view": a["view"].int()}, "int64"),
    (lambda a: {"view": a["view"][None]}, r"view must be \(P,\)|view must be \(-1,\)"),
    (lambda a: {"context": a["context"].long()}, "floating point"),
    (lambda a: {"view": a["view"] + 1}, r"view.* must be in 0 \.\. 2, got"),
    (lambda a: {"view": a["view"] - 2**40}, r"view.* must be in 0 \.\. 2, got"),
    (lambda a: {"output": a["output"] - 1}, r"output.* must be in 0 \.\. 1, got -1"),
    (lambda a: {"output": a["output"][:3]}, r"output must be .*6.*, got .*3"),
    (lambda a: {"num_outputs": 1}, r"output.* must be in 0 \.\. 0, got"),
    (lambda a: {"num_outputs": -1}, r"num_outputs must not be negative|output.* must be in"),
    (lambda a: {"image2bev": a["image2bev"][:5]}, r"image2bev must be .*6, 4, 4.* got .*5, 4"),
    (lambda a: {"image2bev": a["image2bev"].long()}, "image2bev must be floating point"),
    (lambda a: {"undo_image_aug": a["undo_image_aug"][:, :3]}, "undo_image_aug must be"),
    (lambda a: {"undo_image_aug": a["undo_image_aug"][0]}, "undo_image_aug must be"),
]


@each
@pytest.mark.parametrize(("change", "message"), MALFORMED)
def test_malformed(op, change, message):
    arguments = scene()
    with pytest.raises(ValueError, match=message):
        op(**{**arguments, **change(arguments)})


@pytest.mark.parametrize("op", [lift_splat, reference], ids=["op", "reference"])
@pytest.mark.parametrize("count", [(9, 6, 2), (9, 6), (0, 6, 1), (9, -6, 1), (2**20, 2**20, 1)])
def test_malformed_grid(op, count):
    arguments = scene()
    frustum = {**vars(arguments["frustum"]), "count": count}
    with pytest.raises(ValueError, match=r"count must be \(X, Y, 1\)"):
        op(**{**arguments, "frustum": type(arguments["frustum"])(**frustum)})


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c[:5], r"cells must be .*6, 7, 3, 4"),
        (lambda c: c.long(), "cells must be .*int32"),
        (lambda c: c + 54, r"cells must be .*53.*, got"),
        (lambda c: c - 2, r"cells must be .*53.*, got"),
    ],
)
@pytest.mark.parametrize("forced_reference", [False, True], ids=["op", "reference"])
def test_malformed_cells(change, message, forced_reference, monkeypatch):
    if forced_reference:
        module = import_module("fsdbev.layers.lift_splat")
        monkeypatch.setattr(module, "has_kernels", lambda device: False)
    arguments = scene()
    geometry = {k: arguments.pop(k) for k in ("undo_image_aug", "image2bev", "frustum")}
    view = arguments["view"]
    cells = frustum_cells(**geometry, view=view, num_bins=7, feature_size=(3, 4))
    assert cells.min() == -1 and 0 < cells.max() < 54
    arguments |= {"grid_size": (6, 9), "depth_threshold": 0.0, "foreground_threshold": 0.0}
    with pytest.raises(ValueError, match=message):
        splat_cells(**{**arguments, "cells": change(cells)})


def test_devices_must_agree():
    arguments = scene()
    with pytest.raises(ValueError, match="context is on meta, weights on cpu"):
        reference(**{**arguments, "context": arguments["context"].to("meta")})
