"""elliptical_heatmaps: by hand, against a full-resolution drawing and the reference, with
degenerate and malformed input."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from nms_cases import needs_extension, threads
from oracles.heatmaps import full_size_maps, published_heatmaps

from fsdbev.layers import elliptical_heatmaps, elliptical_heatmaps_reference


def reference(*tensors, num_classes, image_size, stride):
    return elliptical_heatmaps_reference(*tensors, num_classes, image_size, stride)


both = pytest.mark.parametrize("op", [elliptical_heatmaps, reference], ids=["op", "reference"])
NAMES = ("boxes", "view", "class_ids", "image_aug", "source_sizes")


def call(op, arguments):
    return op(
        *(arguments[n] for n in NAMES), **{k: v for k, v in arguments.items() if k not in NAMES}
    )


def one_view(*boxes, class_ids=None, **changes):
    """Boxes in an 8 x 8 image without augmentation; the heatmap has 2 x 2 cells."""
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "view": torch.zeros(len(boxes), dtype=torch.int64),
        "class_ids": torch.tensor(class_ids or [0] * len(boxes), dtype=torch.int64),
        "image_aug": torch.eye(4)[None],
        "source_sizes": torch.tensor([[8, 8]]),
        "num_classes": 1,
        "image_size": (8, 8),
        "stride": 4,
        **changes,
    }


@both
def test_by_hand(op):
    # Centre (2.5, 6) -> (2, 6), radii int(2.5) = 2 and 1, sigmas 5/4 and 3/4.
    maps = call(op, one_view((0, 5, 5, 7)))
    assert maps.shape == (1, 1, 2, 2) and maps.dtype == torch.float32
    across, down = math.exp(-8 / 25), math.exp(-8 / 9)  # one pixel off, along each axis
    # Middle pixels of cell (1, 0) are columns 1, 2 and rows 5, 6; column 5 is beyond the radius.
    expected = [[0, 0], [(1 + across) * (1 + down) / 4, 0]]
    torch.testing.assert_close(maps[0, 0], torch.tensor(expected))


@both
def test_interpolates_between_pixels(op):
    # Shifted to the right by half a pixel: columns 1 and 2 sample the original at 0.5 and 1.5.
    image_aug = torch.eye(4)[None].clone()
    image_aug[0, 0, 3] = 0.5
    maps = call(op, one_view((1, 1, 1, 1), image_aug=image_aug))  # only the pixel (1, 1)
    assert maps.flatten().tolist() == [(0.5 + 0.5) / 4, 0, 0, 0]


@both
def test_maximum_over_boxes_before_interpolation(op):
    boxes = ((1, 1, 1, 1), (2, 1, 2, 1), (1, 1, 1, 1))
    image_aug = torch.eye(4)[None].clone()
    image_aug[0, 0, 3] = 0.5
    same = call(op, one_view(*boxes, image_aug=image_aug))
    # Column 1 samples half of pixel 1, column 2 halves of both pixels: 0.5 + 1, not 0.5 + 0.5.
    assert same[0, 0, 0, 0] == 1.5 / 4
    apart = call(op, one_view(*boxes, class_ids=[0, 1, 0], image_aug=image_aug, num_classes=2))
    assert apart[0, :, 0, 0].tolist() == [1 / 4, 0.5 / 4]


@both
def test_other_strides(op):
    pixel = (3, 4, 3, 4)
    assert call(op, one_view(pixel, stride=2)).shape == (1, 1, 4, 4)
    assert call(op, one_view(pixel, stride=2))[0, 0, 2, 1] == 0.25
    assert call(op, one_view(pixel, stride=8)).tolist() == [[[[0.25]]]]
    assert call(op, one_view(pixel, image_size=(7, 9))).shape == (1, 1, 1, 2)


def random_matrix(generator, source, image):
    """Scales, rotates and perhaps flips; the centre of the source image stays in the image."""
    scale, angle, shift_x, shift_y, flip = torch.rand(5, generator=generator).tolist()
    scale = max(1 / 64, (0.5 + scale) * image[1] / max(source[0], 1))
    angle = 0.4 * (angle - 0.5)
    matrix = torch.eye(4, dtype=torch.float64)
    turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:2, :2] = scale * torch.tensor(turn, dtype=torch.float64)
    matrix[0, :2] *= 1 if flip < 0.5 else -1
    middle = torch.tensor(source, dtype=torch.float64) / 2
    goal = torch.tensor([image[1] * (0.3 + 0.4 * shift_x), image[0] * (0.3 + 0.4 * shift_y)])
    matrix[:2, 3] = goal - matrix[:2, :2] @ middle
    matrix[2, 2] = 1.25
    return matrix


def scene(
    views=2, boxes=14, classes=3, source=(61, 35), image=(32, 88), stride=4, seed=0, largest=4.0
):
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([*source, *source], dtype=torch.float64)
    middle = torch.rand(boxes, 2, generator=generator, dtype=torch.float64).repeat(1, 2) * extent
    half = torch.exp(largest * torch.rand(boxes, 2, generator=generator, dtype=torch.float64)) / 2
    matrices = [random_matrix(generator, source, image) for _ in range(views)]
    return {
        "boxes": (middle + torch.cat([-half, half], dim=1)).float(),
        "view": torch.randint(0, max(views, 1), (boxes,), generator=generator),
        "class_ids": torch.randint(0, classes, (boxes,), generator=generator),
        "image_aug": torch.stack(matrices) if views else torch.zeros(0, 4, 4),
        "source_sizes": torch.tensor([source] * views, dtype=torch.int64).reshape(-1, 2),
        "num_classes": classes,
        "image_size": image,
        "stride": stride,
    }


def drawn_at_full_size(arguments):
    """The definition, step by step: draw in the original image, warp every pixel, then reduce."""
    height, width = arguments["image_size"]
    maps = []
    for v, size in enumerate(arguments["source_sizes"].tolist()):
        mask = arguments["view"] == v
        boxes, class_ids = arguments["boxes"][mask], arguments["class_ids"][mask]
        full = full_size_maps(boxes, class_ids, arguments["num_classes"], size).double()
        maps.append(warped(full, arguments["image_aug"][v].double(), height, width))
    middle = arguments["stride"] // 2 - 1  # a cell is the mean of its four middle pixels
    pixels = torch.stack(maps)[..., middle:, middle:]
    return F.avg_pool2d(pixels, 2, arguments["stride"]).float()


def warped(full, image_aug, height, width):
    """Warps (C, rows, columns) to (C, height, width): bilinear, zero outside of the image."""
    affine = image_aug[[0, 1, 3]][:, [0, 1, 3]]
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack([u, v, torch.ones_like(u)]).double().flatten(1)
    uv = (torch.linalg.inv(affine) @ points)[:2].T.view(1, height, width, 2)
    if not full.numel():
        return full.new_zeros(len(full), height, width)
    grid = (2 * uv + 1) / torch.tensor(full.shape[:0:-1]) - 1
    return F.grid_sample(full[None], grid, align_corners=False)[0]


@both
@pytest.mark.parametrize("seed", range(2))
def test_equals_a_full_size_drawing(op, seed):
    arguments = scene(seed=seed)
    expected = drawn_at_full_size(arguments)
    assert expected.shape == (2, 3, 8, 22) and expected.max() > 0.3
    found = call(op, arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    # OpenCV warps in steps of 1/32 pixel, which has a large effect on boxes of a few pixels.
    published = call(published_heatmaps, arguments)
    torch.testing.assert_close(found, published, rtol=0, atol=3e-2)


@needs_extension
@settings(max_examples=40, deadline=None)
@given(
    boxes_dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    matrix_dtype=st.sampled_from([torch.float32, torch.float64, torch.float16]),
    views=st.integers(0, 7),
    boxes=st.integers(0, 12),
    classes=st.integers(1, 4),
    source=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    image=st.tuples(st.integers(0, 33), st.integers(0, 33)),
    stride=st.sampled_from([2, 4, 6]),
    seed=st.integers(0, 2**31),
    largest=st.floats(0, 9),
)
def test_op_equals_reference(boxes_dtype, matrix_dtype, **sizes):
    if not sizes["views"]:
        sizes["boxes"] = 0
    arguments = scene(**sizes)
    arguments["boxes"] = arguments["boxes"].to(boxes_dtype)
    arguments["image_aug"] = arguments["image_aug"].to(matrix_dtype)
    found, expected = call(elliptical_heatmaps, arguments), call(reference, arguments)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@both
@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 1, 4, 4),
        (1, 1, 4, math.nan),
        (1, 1, math.inf, 4),
        (-math.inf, 1, 4, 4),
        (-math.inf, 1, math.inf, 4),
        (4, 1, 1, 4),  # negative sizes
        (1, 4, 4, 1),
        (20, 1, 24, 4),  # outside
        (1, -9, 4, -5),
        (1e30, 1, 2e30, 4),
        (-3e38, -3e38, -3e38, -3e38),
    ],
    ids=str,
)
def test_boxes_that_draw_nothing(op, box):
    assert not call(op, one_view(box)).any()
    beside = call(op, one_view(box, (1, 1, 1, 1), box))
    assert beside.flatten().tolist() == [0.25, 0, 0, 0]


@both
def test_boxes_larger_than_the_image(op):
    for size in (1e6, 1e30, 3e38):
        maps = call(op, one_view((-size, -size, size, size)))
        torch.testing.assert_close(maps, torch.ones(1, 1, 2, 2))
    part = call(op, one_view((-40, 1, 43, 1)))  # centre 1, radius 41: only what is in the image
    expected = sum(math.exp(-8 * (offset / 83) ** 2) for offset in (4, 5)) / 4
    assert part[0, 0, 0, 1].item() == pytest.approx(expected, rel=1e-6)


@both
@pytest.mark.parametrize(
    "sizes",
    [{"boxes": 0}, {"views": 0, "boxes": 0}, {"classes": 1, "image": (3, 88)}, {"image": (0, 0)}],
    ids=str,
)
def test_empty(op, sizes):
    arguments = scene(**sizes)
    height, width = arguments["image_size"]
    found = call(op, arguments)
    assert found.shape == (sizes.get("views", 2), arguments["num_classes"], height // 4, width // 4)
    assert not found.any()
    none = call(op, {**scene(boxes=0), "num_classes": 0})
    assert none.shape == (2, 0, 8, 22)


@both
def test_source_images_of_no_size_and_of_different_sizes(op):
    arguments = scene()
    arguments["source_sizes"] = torch.tensor([[0, 35], [61, 0]])
    assert not call(op, arguments).any()
    arguments["source_sizes"] = torch.tensor([[61, 35], [30, 70]])
    expected = drawn_at_full_size(arguments)
    torch.testing.assert_close(call(op, arguments), expected, rtol=0, atol=1e-6)


MALFORMED = [
    (lambda a: {"boxes": a["boxes"][:, :3]}, r"boxes must be .*4"),
    (lambda a: {"boxes": a["boxes"][0]}, r"boxes must be .*4"),
    (lambda a: {"boxes": a["boxes"].long()}, "boxes must be floating point"),
    (lambda a: {"view": a["view"][:3]}, r"view must be .*14.* got .*3"),
    (lambda a: {"view": a["view"].int()}, "view must be int64"),
    (lambda a: {"class_ids": a["class_ids"][None]}, r"class_ids must be .*14"),
    (lambda a: {"image_aug": a["image_aug"][0]}, r"image_aug must be \(V, 4, 4\)"),
    (lambda a: {"image_aug": a["image_aug"].long()}, "image_aug must be floating point"),
    (lambda a: {"source_sizes": a["source_sizes"][:1]}, r"source_sizes must be .*2, 2"),
    (lambda a: {"source_sizes": a["source_sizes"] - 40}, "source_sizes must be .*got -5"),
    (lambda a: {"source_sizes": a["source_sizes"] + 2**40}, "source_sizes must be .*got 1099"),
    (lambda a: {"view": a["view"] + 1}, r"view must be in 0 \.\. 1, got 2"),
    (lambda a: {"class_ids": a["class_ids"] - 1}, r"class_ids must be in 0 \.\. 2, got -1"),
    (lambda a: {"num_classes": 1}, r"class_ids must be in 0 \.\. 0, got"),
    (lambda a: {"num_classes": -1}, "num_classes must not be negative"),
    (lambda a: {"image_size": (32, 88, 3)}, r"image_size must be \(H, W\)"),
    (lambda a: {"image_size": (-32, 88)}, r"image_size must be \(H, W\), not negative"),
    (lambda a: {"stride": 3}, "stride must be even and positive, got 3"),
    (lambda a: {"stride": 0}, "stride must be even and positive, got 0"),
    (lambda a: {"image_aug": a["image_aug"] * 0}, r"image_aug\[0\] must have an inverse"),
    (lambda a: {"image_aug": a["image_aug"] * math.nan}, r"image_aug\[0\] must have an inverse"),
]


@both
@pytest.mark.parametrize(("change", "message"), MALFORMED)
def test_malformed(op, change, message):
    arguments = scene()
    with pytest.raises(ValueError, match=message):
        call(op, {**arguments, **change(arguments)})


def test_devices_must_agree():
    arguments = scene()
    with pytest.raises(ValueError, match="view is on meta, boxes on cpu"):
        call(reference, {**arguments, "view": arguments["view"].to("meta")})


@needs_extension
def test_result_does_not_depend_on_threads():
    arguments, found = scene(views=7, boxes=40), []
    for number in (1, 3):
        with threads(number):
            found.append(call(elliptical_heatmaps, arguments))
    assert torch.equal(*found)
