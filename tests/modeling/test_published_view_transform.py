"""The view transform against that of the public release, which sums in another order."""

import pytest
import torch
from oracles.view_transform import PublishedViewTransform

from fsdbev.data.fake import fake_samples
from fsdbev.layers import Frustum, frustum_cells, lift_splat, splat_cells
from fsdbev.modeling.bev_paste import BEVPaste
from fsdbev.modeling.view_transform import ViewToBEV
from fsdbev.structures import BEVGrid, Cameras

IMAGE_SIZE, BINS = (64, 176), 9
THRESHOLDS = {"depth_threshold": 1 / BINS, "foreground_threshold": 0.1}


@pytest.mark.parametrize(("batch", "pasted"), [(2, False), (2, True), (1, True)])
def test_maps_and_gradients_are_the_published_ones(batch, pasted):
    generator = torch.Generator().manual_seed(0)
    samples = fake_samples(batch, num_frames=1, num_cameras=3, image_size=IMAGE_SIZE)
    cameras = Cameras.from_samples(samples)
    view_to_bev, paste = ViewToBEV.of_frame(cameras, 0, IMAGE_SIZE), None
    if pasted:
        paste = BEVPaste().sample_transforms(batch, generator)
        view_to_bev = BEVPaste().paste_views(view_to_bev, paste)
    points = {"num_bins": BINS, "feature_size": (4, 11)}
    grid = BEVGrid(cell=3.2)
    frustum = Frustum(IMAGE_SIZE, 1.0, 6.0, grid.lower, grid.size, grid.count)
    published = PublishedViewTransform(
        cameras=cameras, frustum=frustum, paste=paste, **points, **THRESHOLDS
    )
    geometry = {n: getattr(view_to_bev, n) for n in ("undo_image_aug", "image2bev", "view")}
    cells = frustum_cells(**geometry, **points, frustum=frustum)
    assert torch.equal(
        cells.unflatten(0, (-1, batch, 3))[0], published.cells(published.points()[0])
    )

    shape = (2, 3 * batch, BINS, 4, 11)
    weights = torch.rand(shape, generator=generator).requires_grad_()
    foreground = torch.rand(2, 3 * batch, 4, 11, generator=generator)
    context = torch.randn(3 * batch, 5, 4, 11, generator=generator).requires_grad_()
    features = (weights, foreground, context)
    receivers = {"output": view_to_bev.sample, "num_outputs": batch, **THRESHOLDS}
    maps = [
        published(*features),
        lift_splat(*features, **geometry, **receivers, frustum=frustum),
        splat_cells(*features, cells, view=view_to_bev.view, **receivers, grid_size=(32, 32)),
    ]
    cotangent = torch.randn(maps[0].shape, generator=generator)
    expected, *others = ((m, *torch.autograd.grad(m, (weights, context), cotangent)) for m in maps)
    assert expected[0].abs().sum() > 0
    for found in others:
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
