"""lift_splat: by hand, against its reference, gradients, malformed input."""

import math

import pytest
import torch
from lift_splat_cases import ALL, by_hand, cells_of, gradients, reference, scene
from nms_cases import needs_extension, threads

from fsdbev.layers import EXTENSION_BUILT, lift_splat

each = pytest.mark.parametrize("op", ALL.values(), ids=ALL.keys())


@each
def test_by_hand(op):
    # depth 1: y = 0, 2, 4 m -> rows 0, 0, 1 of column 0; depth 3: y = 0, 6, 12 -> rows 0, 1, 3 of 1
    bev = op(**by_hand())
    assert bev.shape == (1, 1, 2, 4, 4) and bev.is_contiguous() and bev.dtype == torch.float32
    assert cells_of(bev) == {(0, 0): 6.5, (1, 0): 70.0, (0, 1): 0.1, (1, 1): 2.0, (3, 1): 30.0}
    torch.testing.assert_close(bev[:, :, 1], -bev[:, :, 0])


@each
def test_values_equal_to_the_threshold_are_kept(op):
    foreground = torch.tensor([0.1, 0.0999, 1.0]).reshape(1, 1, 1, 3)
    bev = op(**by_hand(foreground=foreground, foreground_threshold=0.1, depth_threshold=0.3))
    assert cells_of(bev) == {(0, 0): 0.5, (1, 0): 70.0, (3, 1): 30.0}


@each
def test_uniform_weights_reach_one_over_bins(op):
    # 1/118 is not a float32 number: a float32 weight must count as equal to it.
    weights = torch.full((1, 1, 118, 1, 3), 1.0).softmax(dim=2)
    bev = op(**by_hand(weights=weights, depth_threshold=1 / 118, depth_step=0.0))
    torch.testing.assert_close(bev[0, 0, 0, 0, 0], torch.tensor(11.0), rtol=1e-4, atol=0)


@each
def test_truncates_toward_zero(op):
    # y in cells of 4 m from lower: -1 cell is out, just above it is in cell 0, as is -0.5.
    for lower, expected in ((4.0, {}), (3.999, {(0, 0): 0.5}), (2.0, {(0, 0): 0.5})):
        weights = torch.zeros(1, 1, 2, 1, 3)
        weights[..., 0, 0, 0] = 0.5
        arguments = by_hand(weights=weights, depth_threshold=0.5, lower=(0.0, lower, 0.0))
        assert cells_of(op(**arguments)) == expected
    # The upper bound itself is out; so is a point above or below the single layer of z.
    for z, inside in (
        (1.0, False),
        (0.999, True),
        (-0.999, True),
        (-1.0, False),
        (math.nan, False),
    ):
        image2bev = by_hand()["image2bev"].clone()
        image2bev[0, 2, 3] = z
        assert bool(cells_of(op(**by_hand(image2bev=image2bev)))) is inside


@each
def test_undoing_image_aug_scales_depth(op):
    # The augmented image has half the size and twice the depth: u = 2 u', d = d' / 2.
    undo = torch.diag(torch.tensor([2.0, 2.0, 0.5, 1.0]))[None]
    # depth 0.5 and 1.5; u = 0, 4, 8: y = 0, 2, 4 and 0, 6, 12, all in column 0
    bev = op(**by_hand(undo_image_aug=undo))
    assert cells_of(bev) == {(0, 0): 6.6, (1, 0): 72.0, (3, 0): 30.0}


@each
def test_outputs_share_a_view(op):
    # BEV-paste: outputs 0 and 1 pool views 0 and 1, and those of each other.
    context = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
    shift = torch.eye(4)
    shift[0, 3] = 2.0  # one cell along x
    base = torch.tensor([[0.0, 0, 0, 0.5], [0, 0, 0, 0.5], [0, 0, 0, 0.5], [0, 0, 0, 1]])
    bev = op(
        **by_hand(
            weights=torch.ones(1, 2, 1, 1, 1),
            foreground=torch.ones(1, 2, 1, 1),
            context=context,
            undo_image_aug=torch.eye(4).repeat(2, 1, 1),
            image2bev=torch.stack([base, base, shift @ base, shift @ base]),
            view=torch.tensor([0, 1, 1, 0]),
            output=torch.tensor([0, 1, 0, 1]),
            num_outputs=3,
        )
    )
    assert bev[0, :, 0, 0].tolist() == [[1, 2, 0, 0], [2, 1, 0, 0], [0, 0, 0, 0]]


@needs_extension
def test_mixed_dtypes_and_a_transposed_output_gradient():
    arguments = scene(channels=18)
    mixed = {**arguments, "context": arguments["context"].double()}
    got = lift_splat(**mixed)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, reference(**mixed))
    arguments["weights"].requires_grad_()
    found = []
    for op in (lift_splat, reference):
        found += torch.autograd.grad(op(**arguments).mT.sum(), arguments["weights"])
    torch.testing.assert_close(*found)


@each
def test_gradcheck(op):
    # Weights away from the threshold, where the mask would jump.
    arguments = scene(dtype=torch.float64, sets=1, views=2, channels=2, bins=3, height=2, width=2)
    weights = arguments["weights"]
    arguments["weights"] = torch.where(weights < 0.4, weights / 2, weights)
    leaves = [arguments.pop(k).requires_grad_() for k in ("weights", "context")]
    assert torch.autograd.gradcheck(lambda w, c: op(weights=w, context=c, **arguments), leaves)


@each
def test_no_gradient_to_foreground_and_points_left_out(op):
    arguments = scene()
    arguments["foreground"].requires_grad_()
    arguments["weights"].requires_grad_()
    op(**arguments).sum().backward()
    assert arguments["foreground"].grad is None
    dropped = (arguments["weights"] < 0.3) | (arguments["foreground"] < 0.3)[:, :, None]
    assert arguments["weights"].grad[dropped].abs().max() == 0


@each
@pytest.mark.parametrize(
    "sizes",
    [{"views": 0}, {"sets": 0}, {"channels": 0}, {"bins": 0}, {"width": 0}],
    ids=str,
)
def test_empty(op, sizes):
    bev = op(**scene(**sizes))
    assert bev.shape == (sizes.get("sets", 2), 2, sizes.get("channels", 5), 6, 9)
    assert bev.sum() == 0
    if EXTENSION_BUILT:
        _, grad_weights, grad_context = gradients(lift_splat, scene(**sizes))
        assert grad_weights.sum() == 0 and grad_context.sum() == 0


@each
def test_outputs_without_views_are_zero(op):
    arguments = scene(outputs=1)
    bev = op(**{**arguments, "num_outputs": 3})
    assert bev[:, 0].abs().sum() > 0 and bev[:, 1:].abs().sum() == 0


@needs_extension
def test_result_does_not_depend_on_threads():
    arguments, found = scene(views=6, channels=40, height=8, width=11, bins=30), []
    for number in (1, 2, 3):
        with threads(number):
            found.append(gradients(lift_splat, arguments))
    for one, two, three in zip(*found):
        assert torch.equal(one, two) and torch.equal(one, three)
