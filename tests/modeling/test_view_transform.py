"""View transform: geometry, thresholds, augmentations, precomputed cells."""

import math
from dataclasses import replace

import pytest
import torch

from fsdbev.modeling import ViewTransform
from fsdbev.modeling.view_transform import ViewToBEV
from fsdbev.structures import BEVGrid, Cameras, DepthBins, make_transform, rotation_z

GRID = BEVGrid(x_range=(-8.0, 8.0), y_range=(-4.0, 4.0), z_range=(-5.0, 3.0), cell=1.0)
BINS = DepthBins(start=1.0, stop=9.0, step=1.0)
IMAGE_SIZE = (64, 176)
#: Rotation from camera axes to ego axes of a camera that faces along x.
FORWARD = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
#: Position of the cameras in the ego frame, metres; not on a border between cells.
POSITION = torch.tensor([0.3, 0.2, 0.0])


def cameras(image_aug=None, bev_aug=None, headings=(0.0, math.pi / 2)):
    """Returns cameras of one sample and one frame that face along the headings.

    The optical axis goes through feature (i, j) = (1, 5) of a 4 x 11 map.
    """
    intrinsics = torch.tensor([[100.0, 0, 88], [0, 100.0, 21], [0, 0, 1]])
    rotation = rotation_z(torch.tensor(headings)) @ FORWARD
    n = len(headings)
    return Cameras(
        cam2keyego=make_transform(rotation, POSITION.expand(n, 3))[None],
        intrinsics=intrinsics.expand(1, n, 3, 3),
        image_aug=(torch.eye(4) if image_aug is None else image_aug).expand(n, 4, 4),
        bev_aug=(torch.eye(4) if bev_aug is None else bev_aug)[None],
        sample=torch.zeros(n, dtype=torch.int64),
    )


def pool(rig, depth_bin=3, view=0, cell=(1, 5)):
    """Returns the BEV map of one unit of context in one depth bin of one feature."""
    i, j = cell
    num_views = rig.num_views
    weights = torch.zeros(1, num_views, BINS.count, 4, 11)
    weights[0, view, depth_bin, i, j] = 1.0
    mask = torch.ones(1, num_views, 4, 11)
    context = torch.ones(num_views, 2, 4, 11)
    transform = ViewTransform(grid=GRID, depth_bins=BINS)
    return transform(weights, mask, context, ViewToBEV.of_frame(rig, 0, IMAGE_SIZE))


@pytest.mark.parametrize(
    ("depth_threshold", "kept"), [(None, {0.2, 1 / 8}), (0.0, {0.2, 1 / 8, 0.1}), (0.15, {0.2})]
)
def test_points_below_a_threshold_are_dropped(depth_threshold, kept):
    transform = ViewTransform(grid=GRID, depth_bins=BINS, depth_threshold=depth_threshold)
    weights = torch.zeros(1, 1, BINS.count, 4, 11)
    foreground = torch.ones(1, 1, 4, 11)
    foreground[0, 0, 2] = 0.09  # below the threshold
    for depth_bin, weight in ((1, 0.2), (3, 1 / 8), (5, 0.1)):
        weights[0, 0, depth_bin, 1, 5] = weights[0, 0, depth_bin, 2, 5] = weight
    rig = cameras(headings=(0.0,))
    view_to_bev = ViewToBEV.of_frame(rig, 0, IMAGE_SIZE)
    bev = transform(weights, foreground, torch.ones(1, 2, 4, 11), view_to_bev)
    found = bev[0, 0, 0][bev[0, 0, 0] > 0].tolist()
    assert sorted(found) == pytest.approx(sorted(kept))


def nonzero_cells(bev):
    """Returns the cells (y, x) of a map that are not zero."""
    assert bev.shape == (1, 1, 2, 8, 16)
    return [tuple(c) for c in bev[0, 0, 0].nonzero().tolist()]


@pytest.mark.parametrize(
    ("view", "depth_bin", "expected"),
    [
        (0, 3, [(4, 12)]),  # 4 m ahead of camera 0: (4.3, 0.2)
        (1, 1, [(6, 8)]),  # 2 m ahead of camera 1: (0.3, 2.2)
        (1, 3, []),  # 4 m ahead of camera 1: off the grid
    ],
)
def test_point_on_the_optical_axis(view, depth_bin, expected):
    assert nonzero_cells(pool(cameras(), view=view, depth_bin=depth_bin)) == expected


def test_image_aug_is_undone():
    flip = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
    flip[0, 3] = IMAGE_SIZE[1]
    plain, flipped = cameras(headings=(0.0,)), cameras(image_aug=flip, headings=(0.0,))
    # Column 0 of the flipped image is the right border of the original: y < 0.
    assert nonzero_cells(pool(plain, cell=(1, 0))) == [(7, 12)]
    assert nonzero_cells(pool(flipped, cell=(1, 0))) == [(0, 12)]


def test_bev_aug_is_applied_last():
    turn = make_transform(rotation_z(torch.tensor(math.pi)))
    assert nonzero_cells(pool(cameras(bev_aug=turn), depth_bin=2)) == [(3, 4)]  # (-3.3, -0.2)


def test_float32_under_autocast_and_gradients():
    rig = cameras()
    view_to_bev = ViewToBEV.of_frame(rig, 0, IMAGE_SIZE)
    weights = torch.rand(2, 2, BINS.count, 4, 11, requires_grad=True)
    context = torch.rand(2, 3, 4, 11, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bev = ViewTransform(grid=GRID, depth_bins=BINS)(
            weights, torch.ones(2, 2, 4, 11), context, view_to_bev
        )
    assert bev.shape == (2, 1, 3, 8, 16) and bev.dtype == torch.float32
    bev.square().sum().backward()
    assert weights.grad.abs().sum() > 0 and context.grad.abs().sum() > 0


def test_precomputed_cells_give_the_same_maps():
    torch.manual_seed(0)
    rig = cameras()
    view_to_bev = ViewToBEV.of_frame(rig, 0, IMAGE_SIZE)
    transform = ViewTransform(grid=GRID, depth_bins=BINS)
    features = (torch.rand(2, 2, BINS.count, 4, 11), torch.rand(2, 2, 4, 11))
    context = torch.rand(2, 3, 4, 11)
    static = transform.with_cells(view_to_bev, (4, 11))
    assert view_to_bev.cells is None and static.cells.shape == (2, BINS.count, 4, 11)
    expected = transform(*features, context, view_to_bev)
    assert expected.sum() > 0
    assert torch.equal(transform(*features, context, static), expected)
    assert torch.equal(transform(*features, context, static.to("cpu")), expected)
    # Precomputed cells are used instead of the geometry, even if the geometry changes.
    elsewhere = replace(static, image2bev=torch.zeros_like(static.image2bev))
    assert torch.equal(transform(*features, context, elsewhere), expected)
