"""Pooling in standard operators, against the reference of the operator."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from fsdbev.export.standard_splat import splat_cells_in_standard_operators
from fsdbev.layers import splat_cells_reference


def inputs(
    seed, sets, views, view_to_bev, bins, size, channels, outputs, grid, dtype=torch.float32
):
    g = torch.Generator().manual_seed(seed)
    cells = torch.randint(
        -grid[0] * grid[1], grid[0] * grid[1], (view_to_bev, bins, *size), generator=g
    )
    return (
        torch.rand(sets, views, bins, *size, generator=g, dtype=dtype),
        torch.rand(sets, views, *size, generator=g, dtype=dtype),
        torch.randn(views, channels, *size, generator=g, dtype=dtype),
        cells.clamp(min=-1).int(),
        torch.randint(views, (view_to_bev,), generator=g),
        torch.randint(outputs, (view_to_bev,), generator=g),
        outputs,
        grid,
        0.3,
        0.4,
    )


def test_by_hand():
    """Two bins of two pixels: one weight is too small, one pixel is background, one point is
    outside of the grid, two points are in the same cell."""
    weights = torch.tensor([[0.5, 0.25], [0.75, 0.1]]).view(1, 2, 2, 1, 1)
    weights = torch.cat([weights, torch.ones(1, 2, 2, 1, 1)], dim=4)  # the other pixel
    foreground = torch.tensor([[0.9, 0.1], [0.9, 0.9]]).view(1, 2, 1, 2)
    context = torch.tensor([[[1.0, 100.0]], [[2.0, 8.0]]]).view(2, 1, 1, 2)
    cells = torch.tensor([[[4, 0], [1, 1]], [[4, -1], [2, 5]]]).view(2, 2, 1, 2).int()
    view = torch.arange(2)
    bev = splat_cells_in_standard_operators(
        weights, foreground, context, cells, view, view * 0, 1, (2, 3), 0.2, 0.5
    )
    # cell 4: 0.5 * 1 + 0.75 * 2; cell 1: 0.25 * 1; cell 5: 1 * 8; without 0.1 and background
    expected = torch.tensor([[0, 0.25, 0], [0, 2.0, 8.0]]).view(1, 1, 1, 2, 3)
    assert torch.equal(bev, expected)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sets=st.integers(1, 2),
    views=st.integers(1, 7),
    view_to_bev=st.integers(0, 9),
    bins=st.integers(1, 5),
    size=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    channels=st.integers(1, 5),
    outputs=st.integers(1, 3),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 5)),
)
def test_any_shape(seed, sets, views, view_to_bev, bins, size, channels, outputs, grid):
    arguments = inputs(seed, sets, views, view_to_bev, bins, size, channels, outputs, grid)
    found = splat_cells_in_standard_operators(*arguments)
    expected = splat_cells_reference(*arguments)
    assert found.is_contiguous() and found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", ["grid", "weights", "foreground"])
def test_no_point_reaches_the_thresholds(part):
    weights, foreground, context, cells, *rest = inputs(0, 1, 2, 2, 3, (2, 2), 4, 1, (3, 3))
    cells = torch.full_like(cells, -1) if part == "grid" else cells
    weights = weights * (part != "weights")
    foreground = foreground * (part != "foreground")
    bev = splat_cells_in_standard_operators(weights, foreground, context, cells, *rest)
    assert bev.shape == (1, 1, 4, 3, 3) and not bev.any()
